// Puts settings of several authors into one configuration. Objects are merged key by key; any other value is one setting.

import { isDeepStrictEqual } from "node:util";

export const isMap = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** `below` with the settings of `above` over it. */
export function merged(below, above) {
  const result = new Map(Object.entries(below));
  for (const [key, value] of Object.entries(above)) {
    const lower = result.get(key);
    result.set(key, isMap(value) && isMap(lower) ? merged(lower, value) : value);
  }
  return Object.fromEntries(result);
}

/** `present` without what it has from `former`: the settings that somebody else made since. */
export function without(present, former) {
  const rest = [];
  for (const [key, value] of Object.entries(present)) {
    const before = Object.hasOwn(former, key) ? former[key] : undefined;
    if (isMap(value) && isMap(before)) {
      const inner = without(value, before);
      if (Object.keys(inner).length > 0) {
        rest.push([key, inner]);
      }
    } else if (!isDeepStrictEqual(value, before)) {
      rest.push([key, value]);
    }
  }
  return Object.fromEntries(rest);
}

/** The dotted names of the settings in `below` that `above` replaces by other values. */
export function replaced(below, above, prefix = "") {
  return Object.entries(below).flatMap(([key, value]) => {
    if (!Object.hasOwn(above, key)) {
      return [];
    }
    if (isMap(value) && isMap(above[key])) {
      return replaced(value, above[key], `${prefix}${key}.`);
    }
    return isDeepStrictEqual(value, above[key]) ? [] : [prefix + key];
  });
}
