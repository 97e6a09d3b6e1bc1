// Publish a request as a structured CloudEvent with kafkajs.
//
//   npm install kafkajs
//   node publish.mjs HOST:PORT REQUEST.json [ID]      (ID: the same one again is the same run)
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Kafka, Partitioners, logLevel } from "kafkajs";

const [bootstrap, file, id = randomUUID()] = process.argv.slice(2);
const event = {
  specversion: "1.0",
  id,
  source: "urn:example:nightly-training",
  type: "trainyard.run.requested",
  datacontenttype: "application/json",
  data: JSON.parse(await readFile(file, "utf8")),
};
const kafka = new Kafka({ clientId: "example", brokers: bootstrap.split(","), logLevel: logLevel.ERROR });
const producer = kafka.producer({
  createPartitioner: Partitioners.DefaultPartitioner,
  allowAutoTopicCreation: false,
  idempotent: true,
});
await producer.connect();
const [place] = await producer.send({
  topic: "trainyard.runs.requested",
  acks: -1, // all in-sync replicas
  messages: [
    {
      value: JSON.stringify(event),
      headers: { "content-type": "application/cloudevents+json; charset=utf-8" },
    },
  ],
});
await producer.disconnect();
console.log(`${place.topicName} ${place.partition} ${place.baseOffset}`);
