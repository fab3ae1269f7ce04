//! A command as RESP2 has it: an array of bulk strings.
//!
//! The link queues commands, and the driver writes [`Command::encode`] to the connection.

use bytes::Bytes;

/// See the module. The first argument is the command's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The arguments, the name in front.
    pub args: Vec<Bytes>,
}

impl Command {
    /// A command without arguments.
    pub fn new(name: &'static str) -> Self {
        let args = vec![Bytes::from_static(name.as_bytes())];
        Command { args }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Bytes>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With one more argument, a number.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.arg(number.to_string())
    }

    /// Appends the command as it goes to the engine.
    pub fn encode(&self, out: &mut Vec<u8>) {
        head(out, b'*', self.args.len());
        for arg in &self.args {
            head(out, b'$', arg.len());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn head(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        let command = Command::new("SET").arg("a\r\n").arg("").number(17);
        command.encode(&mut out);
        assert_eq!(
            out,
            b"*4\r\n$3\r\nSET\r\n$3\r\na\r\n\r\n$0\r\n\r\n$2\r\n17\r\n"
        );
    }
}
