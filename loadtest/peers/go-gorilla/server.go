// A relay on Go's gorilla/websocket: each message reaches all on its path, the sender included.
//
// It is the usual chat example at its best. A message is encoded once for all (PreparedMessage). Each client has a queue
// without a limit, so that nobody is dropped. All that is queued leaves in one write, each message in a frame of its own.
// No compression, no log.
package main

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/gorilla/websocket"
)

// joining is a connection that collects all writes between join and flush, and sends them in one write.
type joining struct {
	net.Conn
	mutex   sync.Mutex
	joins   bool
	pending []byte
}

func (c *joining) Write(bytes []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.joins {
		c.pending = append(c.pending, bytes...)
		return len(bytes), nil
	}
	return c.Conn.Write(bytes)
}

func (c *joining) join() {
	c.mutex.Lock()
	c.joins = true
	c.mutex.Unlock()
}

func (c *joining) flush() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.joins = false
	_, err := c.Conn.Write(c.pending)
	c.pending = c.pending[:0]
	return err
}

type listener struct {
	net.Listener
	tls *tls.Config
}

// Accept puts TLS below the joining, so that joined frames are encrypted together.
func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if l.tls != nil {
		conn = tls.Server(conn, l.tls)
	}
	return &joining{Conn: conn}, nil
}

// configuration returns that of TLS, with full records from the first, or nil without a certificate.
func configuration() *tls.Config {
	file := os.Getenv("TLS_CERTIFICATE")
	if file == "" {
		return nil
	}
	certificate, err := tls.LoadX509KeyPair(file, os.Getenv("TLS_KEY"))
	if err != nil {
		log.Fatal(err)
	}
	return &tls.Config{
		Certificates:                []tls.Certificate{certificate},
		MinVersion:                  tls.VersionTLS13,
		DynamicRecordSizingDisabled: true,
	}
}

type client struct {
	socket *websocket.Conn
	mutex  sync.Mutex
	queue  []*websocket.PreparedMessage
	wake   chan struct{}
}

func (c *client) push(message *websocket.PreparedMessage) {
	c.mutex.Lock()
	c.queue = append(c.queue, message)
	c.mutex.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *client) write() {
	var taken []*websocket.PreparedMessage
	conn := c.socket.UnderlyingConn().(*joining)
	for range c.wake {
		c.mutex.Lock()
		taken, c.queue = c.queue, taken[:0]
		c.mutex.Unlock()
		if len(taken) == 0 {
			// It was woken for messages that it had taken already.
			continue
		}
		conn.join()
		for _, message := range taken {
			if c.socket.WritePreparedMessage(message) != nil {
				return
			}
		}
		if conn.flush() != nil {
			return
		}
	}
}

type room struct {
	mutex   sync.Mutex
	members map[*client]struct{}
}

var rooms sync.Map

var upgrader = websocket.Upgrader{
	ReadBufferSize:  4096,
	WriteBufferSize: 4096,
	CheckOrigin:     func(*http.Request) bool { return true },
}

func serve(response http.ResponseWriter, request *http.Request) {
	socket, err := upgrader.Upgrade(response, request, nil)
	if err != nil {
		return
	}
	defer socket.Close()
	socket.SetReadLimit(16 << 20)
	entry, _ := rooms.LoadOrStore(request.URL.Path, &room{members: map[*client]struct{}{}})
	room := entry.(*room)
	me := &client{socket: socket, wake: make(chan struct{}, 1)}
	room.mutex.Lock()
	room.members[me] = struct{}{}
	room.mutex.Unlock()
	go me.write()
	for {
		kind, payload, err := socket.ReadMessage()
		if err != nil {
			break
		}
		message, err := websocket.NewPreparedMessage(kind, payload)
		if err != nil {
			break
		}
		room.mutex.Lock()
		for member := range room.members {
			member.push(message)
		}
		room.mutex.Unlock()
	}
	// Under the lock nobody else pushes, so the channel can be closed.
	room.mutex.Lock()
	delete(room.members, me)
	close(me.wake)
	room.mutex.Unlock()
}

func main() {
	config := configuration()
	tcp, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready", tcp.Addr())
	log.Fatal(http.Serve(listener{tcp, config}, http.HandlerFunc(serve)))
}
