// Registers a person and searches for them through types that openapi-typescript has generated from /openapi.json.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type IsAny<T> = 0 extends 1 & T ? true : false;
type Candidate = components["schemas"]["CandidateView"];

// These lines compile only if the generated types are precise.
const typed: IsAny<Candidate["score"]> | IsAny<Candidate["label"]> | IsAny<Candidate["match"]> = false;

const asFile = (picture: Blob) => picture as unknown as string; // openapi-typescript calls a file a string

function asForm(fields: object): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return form;
}

export async function registerAndSearch(baseUrl: string, collection: string, picture: Blob): Promise<Candidate> {
  const client = createClient<paths>({ baseUrl });
  const params = { query: { collection } };
  const { data: registered, error: refused } = await client.POST("/register", {
    params,
    body: { label: "Ada", image: asFile(picture) },
    bodySerializer: asForm,
  });
  if (refused) throw new Error(`${refused.code}: ${refused.detail}`);
  const identity: string = registered.identity_id;

  const image = Buffer.from(await picture.arrayBuffer()).toString("base64");
  const probe: components["schemas"]["SearchRequest"] = { image, top_k: 1 };
  const { data: found, error } = await client.POST("/search", { params, body: probe });
  if (error) throw new Error(`${error.code}: ${error.detail}`);
  const candidate: Candidate | undefined = found.results[0]?.candidates[0];
  if (typed || candidate?.identity_id !== identity) throw new Error("the search did not return the identity");
  return candidate;
}

declare const Buffer: { from(data: ArrayBuffer): { toString(encoding: "base64"): string } };
