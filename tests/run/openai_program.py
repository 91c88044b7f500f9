"""A program as its author wrote it: OpenAI's own library, configured by nothing but the environment."""

import os

from openai import OpenAI

answer = OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])
print(answer.choices[0].message.content)
print("sk-" in "".join(os.environ.values()))
