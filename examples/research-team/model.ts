/**
 * The model that the team asks: any server that speaks OpenAI's chat completions, or, where none is named, a stand-in.
 *
 *     OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_MODEL=llama3.2 npx tsx examples/research-team/run.ts "…"
 *
 * Agents ask in a step: `context.step('plan', ask, instructions, text)`. What is asked and what is answered is on the log
 * then, and the agent can be run again without a model. The key is no argument of a step, so it is not on the log.
 */

export interface Reply {
  readonly model: string;
  readonly text: string;
}

/** Returns what the model replies; throws where it does not, so that the message which led here comes again, later. */
export async function ask(instructions: string, text: string): Promise<Reply> {
  const { OPENAI_BASE_URL: url, OPENAI_API_KEY: key, OPENAI_MODEL: model } = process.env;
  if (!url) return { model: 'stand-in', text: standIn(instructions, text) };
  if (!model) throw new Error('OPENAI_BASE_URL names a server, but OPENAI_MODEL no model');
  const response = await fetch(`${url.replace(/\/$/, '')}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) },
    body: JSON.stringify({
      model,
      messages: [
        { role: 'system', content: instructions },
        { role: 'user', content: text },
      ],
    }),
    signal: AbortSignal.timeout(120_000),
  });
  if (!response.ok) throw new Error(`the model's server says ${response.status}: ${await response.text()}`);
  const completion = (await response.json()) as Completion;
  const reply = completion.choices?.[0]?.message?.content;
  if (!reply) throw new Error("the model's server replied without a text");
  return { model: completion.model ?? model, text: reply };
}

/** What such a server replies, as far as it matters here. */
interface Completion {
  readonly model?: string;
  readonly choices?: readonly { readonly message?: { readonly content?: string } }[];
}

/** Says the same to the same, and two lines to who asks for two. It knows nothing. */
function standIn(instructions: string, text: string): string {
  const topics = text.split('\n').map((line) => line.replace(/[?.!]*$/, ''));
  if (instructions.includes('two lines')) return `${topics[0]}: for a start?\n${topics[0]}: and beyond?`;
  return topics.map((topic) => `(words on "${topic}")`).join(' ');
}
