// The same as receive.js, with gorilla/websocket. It demands that the server forgets its context, which the relay declines. So it
// gets plain messages beside the others.
package main

import (
	"fmt"
	"log"
	"math/rand"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/gorilla/websocket"
)

var digits = regexp.MustCompile(`\d+`)

func message(number int) string {
	if number%10 == 9 {
		return strconv.Itoa(number)
	}
	text := fmt.Sprintf(`{"event":"trade","number":%d,"price":"%d","é":"€😀"}`, number, number*7919%100003)
	count := 1 + number%40
	if number%97 == 5 {
		count = 1200
	}
	return strings.Repeat(text, count)
}

func main() {
	joins, _ := strconv.Atoi(os.Args[2])
	seed, _ := strconv.Atoi(os.Args[3])
	mayMiss := os.Args[4] == "may-miss"
	draw := rand.New(rand.NewSource(int64(seed)))
	checked := 0
	for join := 0; join < joins; join++ {
		dialer := websocket.Dialer{EnableCompression: draw.Intn(3) > 0}
		socket, _, err := dialer.Dial(os.Args[1], nil)
		if err != nil {
			log.Fatal(err)
		}
		next := -1
		for left := 1 + draw.Intn(120); left > 0; left-- {
			kind, data, err := socket.ReadMessage()
			if err != nil {
				log.Fatalf("join %d: %v", join, err)
			}
			text := string(data)
			number, _ := strconv.Atoi(digits.FindString(text))
			isNext := next < 0 || number == next || mayMiss && number > next
			if !isNext || text != message(number) || (kind == websocket.BinaryMessage) != (number%3 == 0) {
				log.Fatalf("join %d: %d instead of %d: %.200s", join, number, next, text)
			}
			next = number + 1
			checked++
		}
		if draw.Intn(2) == 0 {
			bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
			_ = socket.WriteMessage(websocket.CloseMessage, bye)
		}
		socket.Close()
	}
	fmt.Println("checked", checked)
}
