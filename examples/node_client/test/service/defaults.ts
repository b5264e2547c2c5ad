/** Prints the deadline of each method in seconds, and what is retried: `defaults.js`. */

import { defaultTimeout, SERVICE_CONFIG } from "../../src/calls.js";
import { maintainer, manager, observer, provisioner } from "../../src/index.js";

const methods = [maintainer, manager, observer, provisioner].flatMap((service) => Object.values(service));
const unary = methods.filter((method) => !method.responseStream);
const timeouts = Object.fromEntries(unary.map(({ path }) => [path, defaultTimeout(path, {}) / 1000]));
console.log(JSON.stringify({ timeouts, serviceConfig: JSON.parse(SERVICE_CONFIG) }));
