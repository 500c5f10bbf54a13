package main

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// Rows of version 5.
var newerRows = []row{
	{"will_delay", willDelay},
	{"user_properties", userProperties},
	{"request_response", requestResponse},
	{"message_expiry", messageExpiry},
	{"topic_alias", topicAlias},
	{"receive_maximum", receiveMaximum},
	{"receive_maximum_of_server", receiveMaximumOfServer},
	{"maximum_packet_size", maximumPacketSize},
	{"maximum_packet_size_of_server", maximumPacketSizeOfServer},
	{"no_local", noLocal},
	{"retain_as_published", retainAsPublished},
	{"retain_handling", retainHandling},
	{"keep_alive_of_server", keepAliveOfServer},
	{"assigned_client_id", assignedClientID},
	{"session_expiry", sessionExpiry},
}

func willDelay() {
	watcher := connect("delay-watch")
	watcher.subscribe("delay/#", 1)
	leave := func(name string, delaySeconds uint32) (cutAt time.Time) {
		late := &paho.WillProperties{WillDelayInterval: paho.Uint32(delaySeconds)}
		late.User.Add("k", "v")
		with := options{will: &will{topic: "delay/" + name, qos: 1, properties: late}}
		with.properties.SessionExpiryInterval = paho.Uint32(100)
		leaving := connectWith("delay-"+name, version, with)
		cutAt = time.Now()
		leaving.cut()
		return cutAt
	}
	leave("back", 2)
	connectWith("delay-back", version, options{kept: true})
	cutAt := leave("gone", 1)
	m := watcher.message()
	waited := time.Since(cutAt).Seconds()
	check(0.9 < waited && waited < 2.5, "the will came after %.2f s", waited)
	equal(m.topic, "delay/gone", "topic")
	check(len(m.properties.User) == 1 && m.properties.User[0].Value == "v", "user properties %v", m.properties.User)
	// By the time of this one, that of the client that is back would have come.
	leave("last", 2)
	equal(watcher.message().topic, "delay/last", "topic")
}

func userProperties() {
	subscriber, publisher := pair("props")
	subscriber.subscribe("props/t", 1)
	var sent paho.PublishProperties
	sent.User.Add("b", "1").Add("a", "2").Add("b", "1").Add("", "ü")
	publisher.publishWith("props/t", "x", sent)
	received := paho.UserPropertiesFromPacketUser(subscriber.message().properties.User)
	equal(fmt.Sprint(received), fmt.Sprint(sent.User), "user properties")
}

func requestResponse() {
	const correlation = "\x00\xff7"
	responder, requester := pair("rr")
	responder.subscribe("rr/ask", 1)
	requester.subscribe("rr/answer", 1)
	requester.publishWith("rr/ask", "?", paho.PublishProperties{
		ResponseTopic: "rr/answer", CorrelationData: []byte(correlation), ContentType: "text/plain",
		PayloadFormat: paho.Byte(1), MessageExpiry: paho.Uint32(60),
	})
	asked := responder.message().properties
	equal(asked.ContentType, "text/plain", "content type")
	equal(*asked.PayloadFormat, 1, "payload format")
	check(*asked.MessageExpiry >= 58 && *asked.MessageExpiry <= 60, "expiry %d", *asked.MessageExpiry)
	responder.publishWith(asked.ResponseTopic, "!", paho.PublishProperties{CorrelationData: asked.CorrelationData})
	equal(string(requester.message().properties.CorrelationData), correlation, "correlation data")
}

func messageExpiry() {
	subscriber := connectWith("old-sub", version, options{kept: true})
	subscriber.subscribe("old/t", 1)
	subscriber.disconnect()
	publisher := connect("old-pub")
	publisher.publishWith("old/t", "short", paho.PublishProperties{MessageExpiry: paho.Uint32(1)})
	publisher.publishWith("old/t", "long", paho.PublishProperties{MessageExpiry: paho.Uint32(100)})
	time.Sleep(1100 * time.Millisecond)
	subscriber = connectWith("old-sub", version, options{kept: true})
	m := subscriber.message()
	left := *m.properties.MessageExpiry
	check(m.text() == "long" && left >= 96 && left <= 98, "%s with %d s", m.text(), left)
	subscriber.expectNothing()
}

func topicAlias() {
	subscriber, publisher := pair("alias")
	subscriber.subscribe("alias/#", 1)
	check(*publisher.connack.TopicAliasMaximum >= 2, "topic alias maximum")
	for _, topic := range []string{"alias/long/topic", "", "alias/other", ""} {
		publisher.publishWith(topic, "x", paho.PublishProperties{TopicAlias: paho.Uint16(2)})
	}
	for _, topic := range []string{"alias/long/topic", "alias/long/topic", "alias/other", "alias/other"} {
		equal(subscriber.message().topic, topic, "topic")
	}
}

func receiveMaximum() {
	with := options{manualAcks: true}
	with.properties.ReceiveMaximum = paho.Uint16(3)
	subscriber := connectWith("window-sub", version, with)
	subscriber.subscribe("window/t", 1)
	publisher := connect("window-pub")
	for number := 0; number < 8; number++ {
		publisher.publish("window/t", strconv.Itoa(number), 1, false)
	}
	window := subscriber.messages(3)
	subscriber.expectNothing()
	for number := 3; number < 8; number++ {
		subscriber.ack(window[0])
		window = append(window[1:], subscriber.message())
		equal(window[2].text(), strconv.Itoa(number), "payload")
	}
	subscriber.expectNothing()
}

func receiveMaximumOfServer() {
	publisher := connect("flow")
	window := int(*publisher.connack.ReceiveMaximum)
	var running sync.WaitGroup
	failed := make(chan any, 2*window)
	for number := 0; number < 2*window; number++ {
		running.Add(1)
		go func() {
			defer running.Done()
			defer func() {
				if why := recover(); why != nil {
					failed <- why
				}
			}()
			publisher.publish("flow/t", "x", 1, false)
		}()
	}
	running.Wait()
	check(len(failed) == 0, "%d not acknowledged", len(failed))
}

func maximumPacketSize() {
	var with options
	with.properties.MaximumPacketSize = paho.Uint32(100)
	subscriber := connectWith("small-sub", version, with)
	subscriber.subscribe("small/t", 1)
	publisher := connect("small-pub")
	publisher.publish("small/t", strings.Repeat("x", 500), 1, false)
	publisher.publish("small/t", "fits", 1, false)
	subscriber.expect("fits")
}

func maximumPacketSizeOfServer() {
	publisher := connect("huge")
	publisher.publish("huge/t", strings.Repeat("x", int(*publisher.connack.MaximumPacketSize)), 0, false)
	equal(publisher.end(), "0x95", "DISCONNECT")
}

func noLocal() {
	own, other := pair("local")
	own.subscribeWith("local/off", paho.SubscribeOptions{QoS: 1, NoLocal: true}, nil)
	own.subscribe("local/on", 1)
	own.publish("local/off", "own", 1, false)
	own.publish("local/on", "own", 1, false)
	other.publish("local/off", "other", 1, false)
	received := []string{own.message().text(), own.message().text()}
	sort.Strings(received)
	equal(strings.Join(received, " "), "other own", "payloads")
	own.expectNothing()
}

func retainAsPublished() {
	subscriber, publisher := pair("rap")
	subscriber.subscribeWith("rap/kept", paho.SubscribeOptions{QoS: 1, RetainAsPublished: true}, nil)
	subscriber.subscribe("rap/cleared", 1)
	publisher.publish("rap/kept", "x", 1, true)
	publisher.publish("rap/cleared", "x", 1, true)
	found := map[string]bool{}
	for _, m := range subscriber.messages(2) {
		found[m.topic] = m.retain
	}
	check(found["rap/kept"] && !found["rap/cleared"], "RETAIN: %v", found)
}

func retainHandling() {
	subscriber, publisher := pair("rh")
	subscribe := func(handling byte) {
		// The library takes it as the bits of the packet.
		subscriber.subscribeWith("rh/t", paho.SubscribeOptions{QoS: 1, RetainHandling: handling << 4}, nil)
	}
	publisher.publish("rh/t", "x", 1, true)
	subscribe(2)
	subscriber.expectNothing()
	subscribe(1)
	subscriber.expectNothing()
	subscribe(0)
	subscriber.expect("x")
	subscriber.unsubscribe("rh/t")
	subscribe(1)
	subscriber.expect("x")
}

func keepAliveOfServer() {
	patient := connectWith("patient", version, options{keepAlive: 1200})
	equal(*patient.connack.ServerKeepAlive, 600, "Server Keep Alive")
}

func assignedClientID() {
	ids := map[string]bool{}
	for number := 0; number < 3; number++ {
		ids[connect("").connack.AssignedClientID] = true
	}
	check(len(ids) == 3 && !ids[""], "ids: %v", ids)
}

func sessionExpiry() {
	watcher := connect("brief-watch")
	watcher.subscribe("brief/t", 1)
	connectWith("brief", version, options{kept: true}).disconnect()
	late := &paho.WillProperties{WillDelayInterval: paho.Uint32(100)}
	with := options{kept: true, will: &will{topic: "brief/t", qos: 1, properties: late}}
	with.properties.SessionExpiryInterval = paho.Uint32(1)
	brief := connectWith("brief", version, with)
	check(brief.sessionPresent, "no session")
	cutAt := time.Now()
	brief.cut()
	equal(watcher.message().text(), "gone", "the will")
	waited := time.Since(cutAt).Seconds()
	check(waited > 0.9, "over after %.2f s", waited)
	check(!connectWith("brief", version, options{kept: true}).sessionPresent, "a session")
}
