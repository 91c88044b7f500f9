"""The official OpenAI client: its address and its key are all it is told."""

import os

import openai

client = openai.OpenAI(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"])
asked = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hello?"}]}
whole = client.chat.completions.create(**asked).choices[0].message.content
parts = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)]
assert (whole, parts) == ("hello", ["hel", "lo", ""]), (whole, parts)
try:
    client.get("/keys", cast_to=object)
    raise SystemExit("key management was forwarded")
except openai.PermissionDeniedError as refused:
    assert refused.body["code"] == "path_not_allowed", refused.body
print(openai.__version__)
