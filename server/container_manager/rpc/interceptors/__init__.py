"""What every call passes through, from the outside in: accounting, authentication, errors, limits."""
