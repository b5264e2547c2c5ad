"""What every call passes through, from the outside in: accounting, authentication, errors, reception, limits.

Reception comes before the limits, so that a sender that stops half-way takes no place from others.
"""
