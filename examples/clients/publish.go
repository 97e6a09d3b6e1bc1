// Publish a request as a binary CloudEvent with franz-go.
//
//	go mod init example && go get github.com/twmb/franz-go/pkg/kgo
//	go run publish.go HOST:PORT REQUEST.json [ID]      (ID: the same one again is the same run)
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	request, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	id := rand.Text()
	if len(os.Args) > 3 {
		id = os.Args[3]
	}
	client, err := kgo.NewClient( // acks from all in-sync replicas and idempotent by default
		kgo.SeedBrokers(strings.Split(os.Args[1], ",")...),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	record := &kgo.Record{
		Topic: "trainyard.runs.requested",
		Value: request,
		Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte(id)},
			{Key: "ce_source", Value: []byte("urn:example:nightly-training")},
			{Key: "ce_type", Value: []byte("trainyard.run.requested")},
			{Key: "content-type", Value: []byte("application/json")},
		},
	}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(record.Topic, record.Partition, record.Offset)
}
