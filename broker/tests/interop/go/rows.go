package main

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Rows of all versions.
func allRows() []row {
	rows := []row{
		{"wildcards", wildcards},
		{"dollar_topics", dollarTopics},
		{"overlapping", overlapping},
		{"retained", retained},
		{"retained_clear", retainedClear},
		{"retained_wildcard", retainedWildcard},
		{"will", willIsPublished},
		{"no_will_after_disconnect", noWillAfterDisconnect},
		{"shared", shared},
		{"resume_queued", resumeQueued},
		{"clean_start_forgets", cleanStartForgets},
		{"resume_inflight", resumeInflight},
		{"takeover", takeover},
		{"large_payload", largePayload},
		{"unsubscribe", unsubscribe},
		{"keep_alive", keepAlive},
		{"mixed_versions", mixedVersions},
	}
	if version == "311" {
		rows = append(rows, row{"empty_client_id", emptyClientID})
	}
	for published := byte(0); published < 3; published++ {
		for subscribed := byte(0); subscribed < 3; subscribed++ {
			published, subscribed := published, subscribed
			name := fmt.Sprintf("qos_%d_%d", published, subscribed)
			rows = append(rows, row{name, func() { qos(name, published, subscribed) }})
		}
	}
	return rows
}

func qos(name string, published, subscribed byte) {
	subscriber, publisher := pair(name)
	subscriber.subscribe(name, subscribed)
	for number := 0; number < 20; number++ {
		publisher.publish(name, strconv.Itoa(number), published, false)
	}
	lower := published
	if subscribed < lower {
		lower = subscribed
	}
	for number := 0; number < 20; number++ {
		m := subscriber.message()
		equal(m.text(), strconv.Itoa(number), "payload")
		check(m.qos == lower && !m.retain && !m.dup, "QoS, RETAIN, DUP: %+v", m)
	}
	subscriber.expectNothing()
}

func wildcards() {
	subscriber, publisher := pair("wild")
	subscriber.subscribe("wild/+/x", 1)
	subscriber.subscribe("wild/deep/#", 1)
	for _, topic := range []string{"wild/a/x", "wild/a/b/x", "wild/x", "wild/deep", "wild/deep/a/b", "wild//x"} {
		publisher.publish(topic, topic, 1, false)
	}
	subscriber.expect("wild/a/x", "wild/deep", "wild/deep/a/b", "wild//x")
}

func dollarTopics() {
	subscriber, publisher := pair("dollar")
	subscriber.subscribe("#", 1)
	subscriber.subscribe("+/dollar/t", 1)
	named := connect("dollar-named")
	named.subscribe("$dollar/#", 1)
	publisher.publish("$dollar/dollar/t", "special", 1, false)
	publisher.publish("dollar/dollar/t", "plain", 1, false)
	named.expect("special")
	for _, m := range subscriber.until("plain") {
		// Other rows publish too.
		check(!strings.HasPrefix(m.topic, "$"), "topic %s", m.topic)
	}
}

func overlapping() {
	subscriber, publisher := pair("over")
	subscriber.subscribe("over/#", 0)
	subscriber.subscribe("over/+", 2)
	subscriber.subscribe("over/t", 1)
	publisher.publish("over/t", "x", 2, false)
	m := subscriber.message()
	check(m.text() == "x" && m.qos == 2, "message: %+v", m)
	subscriber.expectNothing()
}

func retained() {
	live, publisher := pair("ret")
	live.subscribe("ret/#", 1)
	publisher.publish("ret/a", "first", 1, true)
	publisher.publish("ret/a", "last", 1, true)
	for _, payload := range []string{"first", "last"} {
		m := live.message()
		check(m.text() == payload && !m.retain, "live: %+v", m)
	}
	late := connect("ret-late")
	late.subscribe("ret/a", 1)
	m := late.message()
	check(m.text() == "last" && m.retain && m.qos == 1, "late: %+v", m)
}

func retainedClear() {
	subscriber, publisher := pair("clear")
	publisher.publish("clear/a", "x", 1, true)
	publisher.publish("clear/a", "", 1, true)
	subscriber.subscribe("clear/a", 1)
	subscriber.expectNothing()
}

func retainedWildcard() {
	subscriber, publisher := pair("many")
	for number := 0; number < 200; number++ {
		publisher.publish(fmt.Sprintf("many/%d/%d", number%7, number), strconv.Itoa(number), 1, true)
	}
	subscriber.subscribe("many/#", 1)
	expectNumbers(subscriber.messages(200), 200)
	subscriber.expectNothing()
}

// Each number below the count once, in any order.
func expectNumbers(messages []message, count int) {
	var found []int
	for _, m := range messages {
		number, err := strconv.Atoi(m.text())
		succeeds(err, "a number")
		found = append(found, number)
	}
	sort.Ints(found)
	equal(len(found), count, "messages")
	for index, number := range found {
		equal(number, index, "number")
	}
}

func willIsPublished() {
	for qos := byte(0); qos < 3; qos++ {
		topic := fmt.Sprintf("will/%d", qos)
		watcher := connect(fmt.Sprintf("will-watch%d", qos))
		watcher.subscribe(topic, 2)
		connectWith(fmt.Sprintf("will-gone%d", qos), version, options{will: &will{topic: topic, qos: qos, retain: true}}).cut()
		m := watcher.message()
		check(m.text() == "gone" && m.qos == qos && !m.retain, "the will: %+v", m)
		late := connect(fmt.Sprintf("will-late%d", qos))
		late.subscribe(topic, 2)
		check(late.message().retain, "RETAIN of a retained will")
	}
}

func noWillAfterDisconnect() {
	watcher := connect("calm-watch")
	watcher.subscribe("calm/t", 1)
	connectWith("calm-gone", version, options{will: &will{topic: "calm/t", qos: 1}}).disconnect()
	watcher.expectNothing()
}

func shared() {
	var members []*peer
	for number := 0; number < 3; number++ {
		members = append(members, connect(fmt.Sprintf("share-%d", number)))
		members[number].subscribe("$share/group/share/t", 1)
	}
	publisher := connect("share-pub")
	for number := 0; number < 90; number++ {
		publisher.publish("share/t", strconv.Itoa(number), 1, false)
	}
	var all []message
	for _, member := range members {
		received := member.burst()
		check(len(received) >= 25, "uneven: %d of 90", len(received))
		all = append(all, received...)
	}
	expectNumbers(all, 90)
}

func resumeQueued() {
	publisher := connect("queue-pub")
	subscriber := connectWith("queue-sub", version, options{kept: true})
	check(!subscriber.sessionPresent, "a session before the first")
	subscriber.subscribe("queue/t", 2)
	subscriber.disconnect()
	var numbers []string
	for number := 0; number < 50; number++ {
		numbers = append(numbers, strconv.Itoa(number))
		publisher.publish("queue/t", numbers[number], byte(number%2)+1, false)
	}
	publisher.publish("queue/t", "lost", 0, false)
	// QoS 0 has no answer; the one behind it on the same connection has.
	publisher.publish("queue/other", "", 1, false)
	subscriber = connectWith("queue-sub", version, options{kept: true})
	check(version == "31" || subscriber.sessionPresent, "no session")
	subscriber.expect(numbers...)
}

func cleanStartForgets() {
	first := connectWith("fresh", version, options{kept: true})
	first.subscribe("fresh/t", 1)
	first.disconnect()
	again := connect("fresh")
	check(!again.sessionPresent, "a session")
	connect("fresh-pub").publish("fresh/t", "x", 1, false)
	again.expectNothing()
}

func resumeInflight() {
	publisher := connect("flight-pub")
	subscriber := connectWith("flight-sub", version, options{kept: true, manualAcks: true})
	subscriber.subscribe("flight/t", 1)
	for number := 0; number < 5; number++ {
		publisher.publish("flight/t", strconv.Itoa(number), 1, false)
	}
	first := subscriber.messages(5)
	subscriber.ack(first[0])
	subscriber.ack(first[1])
	subscriber.cut()
	subscriber = connectWith("flight-sub", version, options{kept: true})
	for _, expected := range first[2:] {
		m := subscriber.message()
		equal(m.packetID, expected.packetID, "packet id")
		check(m.text() == expected.text() && m.dup, "again: %+v", m)
	}
	subscriber.expectNothing()
}

func takeover() {
	first := connectWith("taken", version, options{kept: true})
	first.subscribe("taken/t", 1)
	second := connectWith("taken", version, options{kept: true})
	why := first.end()
	check(version != "5" || why == "0x8e", "DISCONNECT: %s", why)
	connect("taken-pub").publish("taken/t", "x", 1, false)
	second.expect("x")
}

func largePayload() {
	subscriber, publisher := pair("large")
	subscriber.subscribe("large/t", 2)
	payload := bytes.Repeat([]byte("0123456789abcdef"), 57600)
	for qos := byte(0); qos < 3; qos++ {
		publisher.client.publish("large/t", payload, qos, false, nil)
		check(bytes.Equal(subscriber.message().payload, payload), "the payload is another one")
	}
}

func unsubscribe() {
	subscriber, publisher := pair("un")
	subscriber.subscribe("un/a", 1)
	subscriber.subscribe("un/b", 1)
	there, unknown := subscriber.unsubscribe("un/a"), subscriber.unsubscribe("un/unknown")
	check(version != "5" || there == 0 && unknown == 0x11, "UNSUBACK: %d, %d", there, unknown)
	publisher.publish("un/a", "gone", 1, false)
	publisher.publish("un/b", "there", 1, false)
	subscriber.expect("there")
}

func keepAlive() {
	idle := connectWith("alive", version, options{keepAlive: 2})
	idle.subscribe("alive/t", 1)
	time.Sleep(4500 * time.Millisecond)
	connect("alive-pub").publish("alive/t", "x", 1, false)
	idle.expect("x")
}

func emptyClientID() {
	nameless, other := connect(""), connect("")
	nameless.subscribe("nameless/t", 1)
	other.publish("nameless/t", "x", 1, false)
	nameless.expect("x")
}

func mixedVersions() {
	var others []*peer
	for index, other := range []string{"31", "311", "5"} {
		others = append(others, connectWith("mixed-"+other, other, options{}))
		others[index].subscribe("mixed/t", 2)
	}
	connect("mixed-pub").publish("mixed/t", "x", 2, false)
	for _, other := range others {
		other.expect("x")
	}
}
