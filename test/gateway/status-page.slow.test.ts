import { mkdirSync } from "node:fs";
import * as path from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startChromium } from "../fixtures/chromium";
import { KEYS } from "./gateway-host";
import { Watched } from "./watched";

/** For people: what the page looks like after each test run. */
const PICTURES = path.resolve(__dirname, "../../.cache/screenshots");

const PROOF = {
  generated: { text: "Paris", tokens: 8, seconds: 0.2 },
  tensorParallel: 1,
  replicas: 2,
  tokensPerSecond: 380,
  gpus: [0, 1].map((index) => ({ index, totalGiB: 79.65, servingGiB: 38.2, trainingGiB: 3.2, freeGiB: 38.2 })),
  training: { status: "healthy", seconds: 4, detail: "one step trained, loaded and sampled" },
};

describe("the status page in a real Chromium", () => {
  const watched = new Watched();
  const { gateway } = watched;
  let browser: Browser;
  let page: Page;
  const problems: string[] = [];

  beforeAll(async () => {
    mkdirSync(PICTURES, { recursive: true });
    browser = await startChromium();
    await gateway.start();
    gateway.note(PROOF);
  });
  // A page remembers its key: each test has one of its own, also one that is asked once more.
  beforeEach(async () => {
    problems.length = 0;
    page = await browser.newPage({ viewport: { width: 1000, height: 900 } });
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(error.message));
  });
  afterEach(() => page.close());
  afterAll(async () => {
    await browser?.close();
    await watched.close();
  });

  const address = (hash = "") => `http://127.0.0.1:${gateway.port}/status${hash}`;
  const text = () => page.locator("body").innerText();

  it("holds no data and asks for a key", async () => {
    await page.goto(address());
    await page.getByLabel("API key").waitFor();
    expect(await text()).not.toContain("Qwen");
    await page.getByLabel("API key").fill("wrong");
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByText("This key is not known here.").waitFor();
    await page.screenshot({ path: path.join(PICTURES, "status-no-key.png") });
    // The one refused request is the browser's own message.
    expect(problems.filter((problem) => !problem.includes("401"))).toEqual([]);
  });

  it("shows checks, memory planned and measured, adapters, and jobs with their losses", async () => {
    await page.goto(address());
    await page.getByLabel("API key").fill(KEYS.alice);
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByRole("heading", { name: "Qwen/Qwen3-0.6B" }).waitFor();
    const shown = await text();
    expect(shown).toContain("healthy");
    for (const part of [
      "38.2 · training 3.2 · of 79.7 GiB",
      "37.6 GiB in use now · 93 % busy · 412 W · 61 °C",
      "adapter of Qwen/Qwen3-0.6B",
      "ftjob-two",
      "one step trained, loaded and sampled",
      "2, planned 2",
      // More steps than one page of events holds.
      "140",
    ]) {
      expect(shown).toContain(part);
    }
    expect(await page.getByRole("img", { name: /^loss from 4\.0000 to/ }).count()).toBe(2);
    await page.screenshot({ path: path.join(PICTURES, "status.png"), fullPage: true });
    expect(problems).toEqual([]);
  });

  it("takes the key from the part of the address that no server sees, and takes it out of there", async () => {
    const fresh = await (await browser.newContext({ viewport: { width: 390, height: 800 } })).newPage();
    await fresh.goto(address(`#key=${KEYS.default}`));
    await fresh.getByRole("heading", { name: "Qwen/Qwen3-0.6B" }).waitFor();
    expect(fresh.url()).toBe(address());
    await fresh.screenshot({ path: path.join(PICTURES, "status-phone.png"), fullPage: true });
  });

  it("says since when there is no news once vLLM is gone", async () => {
    await page.goto(address(`#key=${KEYS.default}`));
    await page.getByRole("heading", { name: "Qwen/Qwen3-0.6B" }).waitFor();
    await gateway.serving.close();
    try {
      await page.getByText("failed").first().waitFor();
      expect(await text()).toContain("does not answer");
      await page.screenshot({ path: path.join(PICTURES, "status-failed.png") });
    } finally {
      await gateway.serving.listen(gateway.servingPort);
    }
  });
});
