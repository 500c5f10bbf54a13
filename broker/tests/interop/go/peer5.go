package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

type client5 struct {
	*paho.Client
	wire *wire
}

// Hands over packets as they come, with their ids. The library does not read RETAIN and DUP: they are from the wire.
type router struct {
	peer *peer
	// Acknowledges by hand; set before the connection is.
	client *paho.Client
}

func (r *router) RegisterHandler(string, paho.MessageHandler) {}
func (r *router) UnregisterHandler(string)                    {}
func (r *router) SetDebugLogger(paho.Logger)                  {}

func (r *router) Route(packet *packets.Publish) {
	flags := <-r.peer.wire.publishes
	r.peer.inbox <- message{
		topic: packet.Topic, payload: packet.Payload, qos: packet.QoS, retain: flags&1 != 0, dup: flags&8 != 0,
		packetID: packet.PacketID, properties: packet.Properties,
		ack: func() { succeeds(r.client.Ack(paho.PublishFromPacketPublish(packet)), "ack") },
	}
}

// The library's pinger, which misses a stop before it has started and holds back the word of the end until it would ping.
type pinger struct {
	paho.Pinger
	over chan struct{}
}

func (p *pinger) Start(conn net.Conn, interval time.Duration) {
	defer close(p.over)
	p.Pinger.Start(conn, interval)
}

func (p *pinger) Stop() {
	go func() {
		for {
			p.Pinger.Stop()
			select {
			case <-p.over:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
}

func connect5(p *peer, id string, with options) {
	p.wire.publishes = make(chan byte, messagesMax)
	messages := &router{peer: p}
	// The library learns of it from the connection.
	unanswered := func(error) { p.wire.Close() }
	pings := &pinger{Pinger: paho.DefaultPingerWithCustomFailHandler(unanswered), over: make(chan struct{})}
	c := paho.NewClient(paho.ClientConfig{
		ClientID:                   id,
		Conn:                       packets.NewThreadSafeConn(p.wire),
		Router:                     messages,
		PingHandler:                pings,
		PacketTimeout:              patience,
		EnableManualAcknowledgment: with.manualAcks,
		SendAcksInterval:           5 * time.Millisecond,
		OnServerDisconnect:         func(d *paho.Disconnect) { p.ends <- fmt.Sprintf("0x%02x", d.ReasonCode) },
		OnClientError:              func(err error) { p.ends <- err.Error() },
	})
	messages.client = c
	if with.kept && with.properties.SessionExpiryInterval == nil {
		with.properties.SessionExpiryInterval = paho.Uint32(keptSeconds)
	}
	request := &paho.Connect{ClientID: id, KeepAlive: with.keepAlive, CleanStart: !with.kept, Properties: &with.properties}
	if with.will != nil {
		w := with.will
		request.WillMessage = &paho.WillMessage{Topic: w.topic, Payload: []byte("gone"), QoS: w.qos, Retain: w.retain}
		request.WillProperties = w.properties
	}
	limit, cancel := limited()
	defer cancel()
	connack, err := c.Connect(limit, request)
	succeeds(err, "CONNACK")
	p.sessionPresent, p.connack, p.client = connack.SessionPresent, connack.Properties, client5{c, p.wire}
}

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (c client5) subscribe(filter string, subscription paho.SubscribeOptions, id *int) byte {
	limit, cancel := limited()
	defer cancel()
	request := &paho.Subscribe{Subscriptions: map[string]paho.SubscribeOptions{filter: subscription}}
	if id != nil {
		request.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: id}
	}
	suback, err := c.Client.Subscribe(limit, request)
	succeeds(err, "SUBACK")
	return suback.Reasons[0]
}

func (c client5) unsubscribe(filter string) byte {
	limit, cancel := limited()
	defer cancel()
	unsuback, err := c.Unsubscribe(limit, &paho.Unsubscribe{Topics: []string{filter}})
	succeeds(err, "UNSUBACK")
	return unsuback.Reasons[0]
}

func (c client5) publish(topic string, payload []byte, qos byte, retain bool, properties *paho.PublishProperties) {
	limit, cancel := limited()
	defer cancel()
	packet := &paho.Publish{Topic: topic, Payload: payload, QoS: qos, Retain: retain, Properties: properties}
	_, err := c.Publish(limit, packet)
	succeeds(err, "acknowledgement")
}

func (c client5) disconnect() {
	go c.Disconnect(&paho.Disconnect{ReasonCode: 0})
	select {
	case <-c.wire.closed:
	case <-time.After(patience):
		panic("it does not disconnect")
	}
}
