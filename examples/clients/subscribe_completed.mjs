// Print one line per finished run with kafkajs, each exactly once for as long as the group's offsets live.
//
//   npm install kafkajs
//   node subscribe_completed.mjs HOST:PORT GROUP [SECONDS]      (SECONDS: end after so long without a record)
import { Kafka, logLevel } from "kafkajs";

const [bootstrap, groupId, silence] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "example", brokers: bootstrap.split(","), logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId });
const seen = new Set(); // a crash of Trainyard may repeat a record, with the same id; keep the ids where your own state is

let timer;
const stillHere = () => {
  if (silence === undefined) return;
  clearTimeout(timer);
  timer = setTimeout(() => consumer.disconnect(), Number(silence) * 1000);
};

const summary = ({ run_id, run_name, state, reason, trainer, results }) => ({
  run_id,
  run_name,
  state,
  reason,
  trainer,
  metric: results?.metric,
  value: results?.value,
  baseline: results?.baseline,
  model: results?.model?.uri,
});

await consumer.connect();
await consumer.subscribe({ topic: "trainyard.runs.completed", fromBeginning: true });
consumer.on(consumer.events.GROUP_JOIN, stillHere);
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ topic, partition, message }) => {
    stillHere();
    const event = JSON.parse(message.value.toString());
    if (!seen.has(event.id)) {
      seen.add(event.id);
      console.log(JSON.stringify(summary(event.data)));
    }
    const offset = (BigInt(message.offset) + 1n).toString();
    await consumer.commitOffsets([{ topic, partition, offset }]);
  },
});
