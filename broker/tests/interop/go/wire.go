package main

import (
	"net"
	"sync"
)

// A connection that tells what the libraries do not: when a PUBACK has been written, when it is closed, and, if somebody
// takes them, the flags of each PUBLISH that was read.
type wire struct {
	net.Conn
	acks    chan struct{}
	closed  chan struct{}
	closing sync.Once
	// First bytes of the PUBLISHes that were read, in order.
	publishes chan byte
	// Bytes of the packet that are still to come, as far as its length is known.
	left int
	// Bits of the length that are known; noLength: none of it is being read.
	shift int
}

const (
	pubackByte  = 0x40
	publishType = 3
	noLength    = -1
)

func newWire(conn net.Conn) *wire {
	return &wire{Conn: conn, acks: make(chan struct{}, messagesMax), closed: make(chan struct{}), shift: noLength}
}

func (w *wire) Close() error {
	err := w.Conn.Close()
	w.closing.Do(func() { close(w.closed) })
	return err
}

func (w *wire) Write(bytes []byte) (int, error) {
	count, err := w.Conn.Write(bytes)
	if len(bytes) > 0 && bytes[0] == pubackByte {
		select {
		case w.acks <- struct{}{}:
		default: // Only rows with manual acknowledgements count them.
		}
	}
	return count, err
}

func (w *wire) Read(bytes []byte) (int, error) {
	count, err := w.Conn.Read(bytes)
	for rest := bytes[:count]; len(rest) > 0 && w.publishes != nil; {
		rest = rest[w.follow(rest):]
	}
	return count, err
}

// How many of these bytes belong to the same part of a packet: its first byte, a byte of its length, the rest.
func (w *wire) follow(bytes []byte) int {
	switch {
	case w.shift != noLength:
		w.left |= int(bytes[0]&0x7f) << w.shift
		w.shift += 7
		if bytes[0]&0x80 == 0 {
			w.shift = noLength
		}
	case w.left > 0:
		skipped := len(bytes)
		if skipped > w.left {
			skipped = w.left
		}
		w.left -= skipped
		return skipped
	default:
		w.shift = 0
		if bytes[0]>>4 == publishType {
			w.publishes <- bytes[0]
		}
	}
	return 1
}
