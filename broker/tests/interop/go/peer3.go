package main

import (
	"net"
	"net/url"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

var levels = map[string]uint{"31": 3, "311": 4}

type client3 struct{ mqtt.Client }

func connect3(p *peer, id, version string, with options) {
	settings := mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID(id)
	settings.SetProtocolVersion(levels[version]).SetCleanSession(!with.kept).SetAutoReconnect(false)
	settings.SetKeepAlive(time.Duration(with.keepAlive) * time.Second).SetAutoAckDisabled(with.manualAcks)
	settings.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return p.wire, nil })
	settings.SetConnectionLostHandler(func(_ mqtt.Client, err error) { p.ends <- err.Error() })
	settings.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		p.inbox <- message{
			topic: m.Topic(), payload: m.Payload(), qos: m.Qos(), retain: m.Retained(), dup: m.Duplicate(),
			packetID: m.MessageID(), ack: m.Ack,
		}
	})
	if with.will != nil {
		settings.SetWill(with.will.topic, "gone", with.will.qos, with.will.retain)
	}
	c := client3{mqtt.NewClient(settings)}
	token := c.Connect()
	done(token, "CONNACK")
	p.sessionPresent = token.(*mqtt.ConnectToken).SessionPresent()
	p.client = c
}

func done(token mqtt.Token, what string) {
	check(token.WaitTimeout(patience), "no %s", what)
	succeeds(token.Error(), what)
}

func (c client3) subscribe(filter string, subscription paho5.SubscribeOptions, _ *int) byte {
	token := c.Subscribe(filter, subscription.QoS, nil)
	done(token, "SUBACK")
	// The one filter: its key is without `$share/group/`.
	for _, granted := range token.(*mqtt.SubscribeToken).Result() {
		return granted
	}
	panic("an empty SUBACK")
}

func (c client3) unsubscribe(filter string) byte {
	done(c.Unsubscribe(filter), "UNSUBACK")
	return 0
}

func (c client3) publish(topic string, payload []byte, qos byte, retain bool, _ *paho5.PublishProperties) {
	done(c.Publish(topic, qos, retain, payload), "acknowledgement")
}

func (c client3) disconnect() { c.Disconnect(uint(patience.Milliseconds())) }
