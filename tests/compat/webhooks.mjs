// Checks a message that webhooks.py printed with the unmodified `standardwebhooks` of npm.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const { secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
const library = new Webhook(secret);
library.verify(body, headers);
try {
  library.verify(`${body} `, headers);
} catch {
  console.log("standardwebhooks (npm): verified, and refused when changed");
  process.exit(0);
}
console.error("standardwebhooks (npm) took a changed body");
process.exit(1);
