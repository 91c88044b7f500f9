// The official Anthropic client: its address and its key are all it is told.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { VERSION } from "@anthropic-ai/sdk/version";

const client = new Anthropic({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY });
const asked = { model: "claude-mock", max_tokens: 10, messages: [{ role: "user", content: "hello?" }] };
const whole = await client.messages.create(asked);
assert.equal(whole.content[0].text, "hello");
assert.equal(await client.messages.stream(asked).finalText(), "hello");
console.log(VERSION);
