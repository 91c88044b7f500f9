"""The official Anthropic client: its address and its key are all it is told."""

import os

import anthropic

client = anthropic.Anthropic(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"])
asked = {"model": "claude-mock", "max_tokens": 10, "messages": [{"role": "user", "content": "hello?"}]}
whole = client.messages.create(**asked).content[0].text
with client.messages.stream(**asked) as stream:
    parts = list(stream.text_stream)
assert (whole, parts) == ("hello", ["hel", "lo"]), (whole, parts)
print(anthropic.__version__)
