//! `help`: topics that no single command owns, and the help of each command.

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};

/// Print help on a command or a topic: formats, keys, exit-codes.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite help keys
  lignite help cf create")]
pub struct Args {
    /// A command, or one of: formats, keys, exit-codes.
    topic: Vec<String>,
}

const FORMATS: &str = "\
Results (--format, or --json for short)
  table    for people; the default
  json     one document; its field \"schema\" names it: lignite.<command>/1
  ndjson   one object a line
  csv      a header and a line a row
Numbers in json, ndjson and csv are plain: bytes and nanoseconds.

Data (--format of import and export)
  kv       u32le key length, u32le value length, key, value, repeated to the end of the file
  ndjson   {\"k\":..,\"v\":..} on each line
  csv      the header k,v and a line a record
Keys and values of ndjson and csv follow the rules of: lignite help keys. Export and import again
is identity for all bytes. Input in Zstandard frames is read directly; output is compressed if the
name of the file ends in .zst.";

const KEYS: &str = "\
Keys and values as typed are plain text, or begin with a prefix that says what they are:
  hex:00ff       bytes, two digits each
  b64:AP8=       bytes in Base64
  u32:7          four bytes, big-endian
  u64:7          eight bytes, big-endian
  i64:-7         eight bytes, big-endian, in the order of the numbers
  esc:a\\x00\\n    text with \\xNN \\n \\r \\t \\0 and \\\\ as escapes
  text:hex:7     the text behind the prefix, whatever it looks like
Nothing is ever guessed.

Keys and values as shown (--keys, --values):
  auto           text if it is printable UTF-8 (control characters are not), with text: before text
                 that looks like a prefix, else hex:; can be pasted back as input; the default
  hex b64 esc    with their prefix; can be pasted back
  u64            u64: and a number if there are eight bytes, else as auto; can be pasted back
  text           as text, whatever it is; control characters but line ends and tabs are replaced
  len            the number of bytes
  none           nothing";

/// Prints it.
pub fn run(args: &Args, context: &Context, cli: &mut clap::Command) -> Outcome {
    let topic: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    let text = match topic.as_slice() {
        ["formats"] => FORMATS.to_string(),
        ["keys"] => KEYS.to_string(),
        ["exit-codes"] => Exit::TABLE
            .iter()
            .map(|(exit, meaning)| format!("{:>3}  {meaning}", exit.code()))
            .collect::<Vec<_>>()
            .join("\n"),
        path => {
            cli.build();
            let mut command = cli;
            for name in path {
                command = command.find_subcommand_mut(name).ok_or_else(|| {
                    Failure::usage(format!("there is no command or topic {name}; topics: formats, keys, exit-codes"))
                })?;
            }
            command.render_help().to_string().trim_end().to_string()
        }
    };
    let mut out = context.output();
    out.line(&text)?;
    out.flush()?;
    Ok(Exit::Done)
}
