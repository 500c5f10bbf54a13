package main

import (
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
)

const (
	// The most that anything may take; reached only when a row fails.
	patience = 5 * time.Second
	// How long to look for something that must not come.
	doubt       = 200 * time.Millisecond
	keptSeconds = 3600
	// More than any row receives.
	messagesMax = 1000
)

type will struct {
	topic      string
	qos        byte
	retain     bool
	properties *paho5.WillProperties
}

type options struct {
	// Its session outlives it; for an hour, if the properties of version 5 do not say otherwise.
	kept       bool
	keepAlive  uint16
	manualAcks bool
	will       *will
	properties paho5.ConnectProperties
}

// In versions before 5 without properties.
type message struct {
	topic      string
	payload    []byte
	qos        byte
	retain     bool
	dup        bool
	packetID   uint16
	properties *packets.Properties
	ack        func()
}

func (m message) text() string { return string(m.payload) }

// What the two libraries have in common. Each call returns when the broker has answered.
type client interface {
	subscribe(filter string, subscription paho5.SubscribeOptions, id *int) (granted byte)
	// The code is of version 5.
	unsubscribe(filter string) (code byte)
	publish(topic string, payload []byte, qos byte, retain bool, properties *paho5.PublishProperties)
	disconnect()
}

type peer struct {
	client
	wire           *wire
	inbox          chan message
	ends           chan string
	sessionPresent bool
	connack        *paho5.ConnackProperties
}

func connect(id string) *peer { return connectWith(id, version, options{}) }

func connectWith(id, version string, with options) *peer {
	if with.keepAlive == 0 {
		with.keepAlive = 60
	}
	conn, err := net.Dial("tcp", address)
	succeeds(err, "dial")
	p := &peer{
		wire:  newWire(conn),
		inbox: make(chan message, messagesMax),
		ends:  make(chan string, 10),
	}
	if version == "5" {
		connect5(p, id, with)
	} else {
		connect3(p, id, version, with)
	}
	return p
}

func pair(name string) (subscriber, publisher *peer) {
	return connect(name + "-sub"), connect(name + "-pub")
}

func (p *peer) subscribe(filter string, qos byte) {
	p.subscribeWith(filter, paho5.SubscribeOptions{QoS: qos}, nil)
}

func (p *peer) subscribeWith(filter string, subscription paho5.SubscribeOptions, id *int) {
	equal(p.client.subscribe(filter, subscription, id), subscription.QoS, "SUBACK")
}

func (p *peer) publish(topic, payload string, qos byte, retain bool) {
	p.client.publish(topic, []byte(payload), qos, retain, nil)
}

// At QoS 1.
func (p *peer) publishWith(topic, payload string, properties paho5.PublishProperties) {
	p.client.publish(topic, []byte(payload), 1, false, &properties)
}

func (p *peer) message() message {
	select {
	case m := <-p.inbox:
		return m
	case <-time.After(patience):
		panic("no message")
	}
}

func (p *peer) messages(count int) (all []message) {
	for len(all) < count {
		all = append(all, p.message())
	}
	return all
}

// What comes until nothing has come for a moment.
func (p *peer) burst() (all []message) {
	for {
		select {
		case m := <-p.inbox:
			all = append(all, m)
		case <-time.After(doubt):
			return all
		}
	}
}

// These payloads in this order, and nothing behind them.
func (p *peer) expect(payloads ...string) {
	for _, payload := range payloads {
		equal(p.message().text(), payload, "payload")
	}
	p.expectNothing()
}

// All messages up to the one with this payload.
func (p *peer) until(payload string) (all []message) {
	for len(all) == 0 || all[len(all)-1].text() != payload {
		all = append(all, p.message())
	}
	return all
}

func (p *peer) expectNothing() {
	time.Sleep(doubt)
	equal(len(p.inbox), 0, "further messages")
}

// Returns when PUBACK is written.
func (p *peer) ack(m message) {
	m.ack()
	select {
	case <-p.wire.acks:
	case <-time.After(patience):
		panic(fmt.Sprintf("no PUBACK for %d", m.packetID))
	}
}

// The connection ends without DISCONNECT.
func (p *peer) cut() { p.wire.Close() }

func (p *peer) end() string {
	select {
	case why := <-p.ends:
		return why
	case <-time.After(patience):
		panic("the connection does not end")
	}
}
