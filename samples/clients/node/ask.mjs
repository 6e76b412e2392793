// Asks a question about a picture and prints the answer as it comes. Node 18 or newer, nothing to install.
//
// TUWEN_API_KEY=sk-tw-… node ask.mjs PICTURE QUESTION [MODEL]

import { readFile } from "node:fs/promises";

const [picture, question, model = "local-ocr-vision"] = process.argv.slice(2);
if (question === undefined) {
  fail("usage: node ask.mjs PICTURE QUESTION [MODEL]");
} else {
  await ask().catch((error) => fail(error.cause?.message ?? error.message));
}

async function ask() {
  const baseUrl = process.env.TUWEN_BASE_URL ?? "http://127.0.0.1:8000/v1";
  const data = (await readFile(picture)).toString("base64");
  const response = await fetch(`${baseUrl}/chat/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${process.env.TUWEN_API_KEY}` },
    body: JSON.stringify({
      model,
      stream: true,
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: question },
            // Tuwen looks at the bytes, so the label need not fit.
            { type: "image_url", image_url: { url: `data:image/jpeg;base64,${data}` } },
          ],
        },
      ],
    }),
  });
  if (!response.ok) {
    fail(`${response.status}: ${(await response.json()).error.message}`);
  } else {
    await printAnswer(response.body);
  }
}

async function printAnswer(body) {
  for await (const line of lines(body)) {
    if (!line.startsWith("data: ")) continue; // empty lines, and comments that keep the connection awake
    if (line === "data: [DONE]") {
      process.stdout.write("\n");
      return;
    }
    const chunk = JSON.parse(line.slice(6));
    if (chunk.error) return fail(`\n${chunk.error.message}`);
    process.stdout.write(chunk.choices[0]?.delta.content ?? "");
  }
  fail("\nthe answer was cut short");
}

async function* lines(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}
