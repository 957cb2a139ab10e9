// BullMQ: a Queue and a Worker of concurrency 1, priorities on. Asked as `bench/actor.py` asks.
import { Queue, Worker } from "bullmq";
import IORedis from "ioredis";
import { createInterface } from "node:readline";

const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const queue = new Queue("bench", { connection });
const now = () => Number(process.hrtime.bigint()) / 1e9; // CLOCK_MONOTONIC, as in Python
const job = (number) => ({ name: "job", data: { number }, opts: { priority: 1 + (number % 3), removeOnComplete: true } });

const functions = {
  // Jobs in one call, as many as asked for.
  async bulk({ count }) {
    const jobs = Array.from({ length: count }, (_, number) => job(number));
    const began = now();
    await queue.addBulk(jobs);
    return [began, now(), count];
  },

  // Jobs that do nothing, from the worker's start to the end of the last.
  async drain({ count }) {
    let left = count;
    const worker = new Worker("bench", async () => {}, { connection, concurrency: 1, autorun: false });
    await worker.waitUntilReady();
    const over = new Promise((resolve) => worker.on("completed", () => --left === 0 && resolve()));
    const began = now();
    worker.run();
    await over;
    const ended = now();
    await worker.close();
    return [began, ended, count];
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let said;
  try {
    said = { answer: (await functions[asked.do](asked.with)) ?? null };
  } catch (error) {
    said = { error: String(error.stack) };
  }
  process.stdout.write(JSON.stringify(said) + "\n");
}
process.exit(0);
