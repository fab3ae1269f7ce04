//! The reader of a connection: it takes the bytes of frames apart into messages. A connection calls it.
//!
//! Almost every message lies whole in one frame in the read buffer, and is handed on where it lies. A message that has
//! arrived in part, or comes in fragments, is handed on piece by piece. Only headers, control frames and compressed
//! messages are put together from parts.

use super::super::receiver::Receiver;
use super::deflate::{Agreement, Inflater};
use super::wire::{self, CONTINUATION, Header, MAX_CONTROL_BYTES, MAX_HEADER_BYTES, RESERVED};

/// The state of the reader.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// The beginning of a header or a control frame whose rest has not arrived.
    partial: Vec<u8>,
    /// Bytes of a data frame that are still to come.
    missing: u64,
    /// Whether a message has begun and not ended.
    is_in_message: bool,
    /// Whether that message ends with this frame.
    ends_with_frame: bool,
    /// Whether that message is compressed.
    is_deflated: bool,
    /// The inflater, if the server may compress.
    inflater: Option<Box<Inflater>>,
}

impl Inbound {
    /// The server may compress from now on.
    pub(crate) fn agree(&mut self, agreement: Agreement) {
        self.inflater = Some(Box::new(Inflater::new(agreement)));
    }

    /// Takes the bytes that were read. An error says how the server broke the protocol; the stream cannot be understood
    /// any more then.
    pub(crate) fn feed(
        &mut self,
        mut input: &[u8],
        receiver: &mut impl Receiver,
    ) -> Result<(), &'static str> {
        if !self.partial.is_empty() {
            input = self.complete(input, receiver)?;
        }
        while !input.is_empty() {
            if self.missing > 0 {
                input = self.go_on(input, receiver)?;
                continue;
            }
            let Some(header) = wire::read_header(input)? else {
                self.partial.extend_from_slice(input);
                break;
            };
            let end = header.bytes as u64 + header.payload;
            if end <= input.len() as u64 {
                let (frame, rest) = input.split_at(end as usize);
                self.take_whole(&header, &frame[header.bytes..], receiver)?;
                input = rest;
            } else if header.is_control() {
                self.partial.extend_from_slice(input);
                break;
            } else {
                self.start(&header, receiver)?;
                input = &input[header.bytes..];
            }
        }
        Ok(())
    }

    /// Takes a frame that is there whole.
    #[inline]
    fn take_whole(
        &mut self,
        header: &Header,
        payload: &[u8],
        receiver: &mut impl Receiver,
    ) -> Result<(), &'static str> {
        if header.is_control() {
            receiver.on_control(header.opcode, payload);
            return Ok(());
        }
        if header.is_final && !self.is_in_message && header.opcode != CONTINUATION {
            let Some(inflater) = &mut self.inflater else {
                if header.is_deflated {
                    return Err(RESERVED);
                }
                receiver.on_message(header.opcode, payload);
                return Ok(());
            };
            receiver.note_compression(header.is_deflated);
            let payload = if header.is_deflated {
                inflater.inflate(payload)?
            } else {
                payload
            };
            receiver.on_message(header.opcode, payload);
            return Ok(());
        }
        self.start(header, receiver)?;
        self.go_on(payload, receiver)?;
        Ok(())
    }

    /// Begins a data frame that is not a message in one piece.
    fn start(&mut self, header: &Header, receiver: &mut impl Receiver) -> Result<(), &'static str> {
        let continues = header.opcode == CONTINUATION;
        if continues != self.is_in_message {
            return Err(if continues {
                "a continuation of nothing"
            } else {
                "a message inside another"
            });
        }
        if !continues {
            self.begin(header, receiver)?;
        }
        self.is_in_message = true;
        self.ends_with_frame = header.is_final;
        self.missing = header.payload;
        if self.missing == 0 {
            self.end_frame(receiver)?;
        }
        Ok(())
    }

    /// Begins a message that is not in one piece.
    fn begin(&mut self, header: &Header, receiver: &mut impl Receiver) -> Result<(), &'static str> {
        self.is_deflated = header.is_deflated;
        if self.inflater.is_some() {
            receiver.note_compression(header.is_deflated);
        }
        if !header.is_deflated {
            receiver.on_start(header.opcode);
            return Ok(());
        }
        let inflater = self.inflater.as_mut().ok_or(RESERVED)?;
        inflater.begin(header.opcode);
        Ok(())
    }

    /// The inflater of a message that is compressed.
    fn inflater(&mut self) -> Option<&mut Inflater> {
        self.inflater.as_deref_mut().filter(|_| self.is_deflated)
    }

    /// Takes more of the payload of a frame that has begun. Returns the bytes behind it.
    fn go_on<'i>(
        &mut self,
        input: &'i [u8],
        receiver: &mut impl Receiver,
    ) -> Result<&'i [u8], &'static str> {
        if self.missing == 0 {
            return Ok(input);
        }
        let bytes = self.missing.min(input.len() as u64);
        let (piece, rest) = input.split_at(bytes as usize);
        match self.inflater() {
            Some(inflater) => inflater.push(piece)?,
            None => receiver.on_piece(piece),
        }
        self.missing -= bytes;
        if self.missing == 0 {
            self.end_frame(receiver)?;
        }
        Ok(rest)
    }

    fn end_frame(&mut self, receiver: &mut impl Receiver) -> Result<(), &'static str> {
        if !self.ends_with_frame {
            return Ok(());
        }
        self.is_in_message = false;
        match self.inflater() {
            Some(inflater) => {
                let (opcode, message) = inflater.end()?;
                receiver.on_message(opcode, message);
            }
            None => receiver.on_end(),
        }
        Ok(())
    }

    /// Completes a header or a control frame. Returns the bytes behind it.
    fn complete<'i>(
        &mut self,
        input: &'i [u8],
        receiver: &mut impl Receiver,
    ) -> Result<&'i [u8], &'static str> {
        let had = self.partial.len();
        let room = MAX_HEADER_BYTES + MAX_CONTROL_BYTES - had;
        self.partial
            .extend_from_slice(&input[..room.min(input.len())]);
        let Some(header) = wire::read_header(&self.partial)? else {
            return Ok(&[]);
        };
        if header.is_control() {
            let end = header.bytes + header.payload as usize;
            if self.partial.len() < end {
                return Ok(&[]);
            }
            receiver.on_control(header.opcode, &self.partial[header.bytes..end]);
            self.partial.clear();
            return Ok(&input[end - had..]);
        }
        self.partial.clear();
        let rest = &input[header.bytes - had..];
        if header.payload <= rest.len() as u64 {
            let (payload, rest) = rest.split_at(header.payload as usize);
            self.take_whole(&header, payload, receiver)?;
            return Ok(rest);
        }
        self.start(&header, receiver)?;
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use tungstenite::http::{HeaderMap, HeaderValue};

    use super::super::deflate::tests::Compressor;
    use super::super::wire::{BINARY, PING, TEXT};
    use super::*;

    /// Puts messages together from their pieces.
    #[derive(Default)]
    struct Collected {
        messages: Vec<(u8, Vec<u8>)>,
        open: Option<(u8, Vec<u8>)>,
        compressed: Vec<bool>,
    }

    impl Receiver for Collected {
        fn on_message(&mut self, opcode: u8, payload: &[u8]) {
            assert!(self.open.is_none());
            self.messages.push((opcode, payload.to_vec()));
        }
        fn on_start(&mut self, opcode: u8) {
            assert!(self.open.is_none());
            self.open = Some((opcode, Vec::new()));
        }
        fn on_piece(&mut self, piece: &[u8]) {
            self.open.as_mut().unwrap().1.extend_from_slice(piece);
        }
        fn on_end(&mut self) {
            self.messages.push(self.open.take().unwrap());
        }
        fn on_control(&mut self, opcode: u8, payload: &[u8]) {
            self.messages.push((opcode, payload.to_vec()));
        }
        fn note_compression(&mut self, is_deflated: bool) {
            self.compressed.push(is_deflated);
        }
    }

    /// Unmasked frames of every kind: short, long, empty, fragments with a ping between them.
    fn stream() -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
        let mut bytes = vec![0x82, 3, 1, 2, 3, 0x81, 0];
        bytes.extend([0x02, 2, 4, 5, 0x89, 1, 9, 0x00, 0, 0x80, 1, 6]);
        bytes.extend([0x82, 126, 1, 44]);
        bytes.extend([7; 300]);
        bytes.extend([0x81, 1, b'x']);
        let messages = vec![
            (BINARY, vec![1, 2, 3]),
            (TEXT, vec![]),
            (PING, vec![9]),
            (BINARY, vec![4, 5, 6]),
            (BINARY, vec![7; 300]),
            (TEXT, vec![b'x']),
        ];
        (bytes, messages)
    }

    #[test]
    fn messages_are_the_same_however_the_stream_is_cut() {
        let (bytes, messages) = stream();
        for size in 1..bytes.len() {
            let mut inbound = Inbound::default();
            let mut collected = Collected::default();
            for chunk in bytes.chunks(size) {
                inbound.feed(chunk, &mut collected).unwrap();
            }
            assert_eq!(collected.messages, messages, "chunks of {size}");
        }
    }

    /// A frame of a server, of less than 64 KiB.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        if payload.len() < 126 {
            frame.push(payload.len() as u8);
        } else {
            frame.push(126);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn compressed_and_plain_messages_are_the_same_however_the_stream_is_cut() {
        let mut compressor = Compressor::new();
        let long = vec![b'x'; 20_000];
        let texts: [&[u8]; 4] = [b"Hello", b"Hello again", &long, b"plain"];
        let mut bytes = Vec::new();
        bytes.extend(frame(0xc1, &compressor.compress(texts[0])));
        let second = compressor.compress(texts[1]);
        let (first, last) = second.split_at(3);
        bytes.extend(frame(0x41, first));
        bytes.extend(frame(0x89, b"ping"));
        bytes.extend(frame(0x80, last));
        bytes.extend(frame(0xc1, &compressor.compress(texts[2])));
        bytes.extend(frame(0x81, texts[3]));
        for size in 1..bytes.len() {
            let mut inbound = Inbound::default();
            inbound.agree(Agreement::read(&headers()).unwrap().unwrap());
            let mut collected = Collected::default();
            for chunk in bytes.chunks(size) {
                inbound.feed(chunk, &mut collected).unwrap();
            }
            collected.messages.retain(|(opcode, _)| *opcode != PING);
            let messages = collected.messages.iter().map(|(_, text)| &text[..]);
            assert!(messages.eq(texts), "chunks of {size}");
            assert_eq!(collected.compressed, [true, true, true, false]);
        }
    }

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        let answer = HeaderValue::from_static("permessage-deflate");
        headers.insert("Sec-WebSocket-Extensions", answer);
        headers
    }

    #[test]
    fn a_compressed_message_without_the_extension_is_an_error() {
        for bad in [&[0xc1, 0][..], &[0x41, 1, 0], &[0xc1, 5, 0]] {
            let mut collected = Collected::default();
            assert!(Inbound::default().feed(bad, &mut collected).is_err());
        }
    }

    #[test]
    fn fragments_out_of_place_are_errors() {
        for bad in [&[0x80, 0][..], &[0x00, 5, 1], &[0x02, 1, 7, 0x82, 1, 7]] {
            let mut collected = Collected::default();
            assert!(Inbound::default().feed(bad, &mut collected).is_err());
        }
    }
}
