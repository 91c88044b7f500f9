// The official OpenAI client: its address and its key are all it is told.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY });
const asked = { model: "gpt-mock", messages: [{ role: "user", content: "hello?" }] };
const whole = await client.chat.completions.create(asked);
assert.equal(whole.choices[0].message.content, "hello");
const parts = [];
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
  parts.push(chunk.choices[0].delta.content ?? "");
}
assert.deepEqual(parts, ["hel", "lo", ""]);
console.log(VERSION);
