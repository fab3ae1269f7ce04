//! The form in which a member reads each batch, and whether it is in step with the window of its topic.
//!
//! The form is chosen at the beginning of a batch and nowhere else. Compressed frames are chosen only if the member has read
//! every compressed frame since the window was empty: otherwise the client would inflate them without an error, and wrongly.
//!
//! A member is in step once it has taken the last byte of a batch in its compressed form, and not before. A move of
//! any other kind puts it out of step.

use crate::ids::ClientId;
use crate::port::terms::Form;
use crate::relay::batch::Batch;
use crate::relay::batch::deflated::after;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    /// The form that the member takes.
    pub takes: Form,
    /// The form of the batch that it is in. At the beginning of a batch, one that every batch for it has.
    pub reads: Form,
    /// The number of the compressed batch that it can read next; 0 if it can read only one that begins with an empty window.
    pub next_number: u32,
}

impl Reader {
    /// A member that reads plain frames. Nothing is to be chosen for it.
    pub(crate) const PLAIN: Reader = Reader::new(Form::Frames);

    /// A member that takes `form`, and that may stand inside a batch.
    pub(crate) const fn new(form: Form) -> Reader {
        Reader {
            takes: form,
            reads: form.of_kept(),
            next_number: 0,
        }
    }

    /// The form in which it reads a batch from `offset` on. `own` are messages that it does not get.
    pub(crate) fn choose(self, batch: &Batch, offset: u32, own: Option<ClientId>) -> Form {
        if self.takes != Form::Deflated || offset != 0 {
            return self.reads;
        }
        let Some(mark) = batch.mark() else {
            return self.reads;
        };
        // A member that leaves messages out cannot read those that refer to them.
        let leaves_out = own.is_some_and(|own| !batch.next_of(own, 0).is_empty());
        if !leaves_out && (mark.is_key || mark.number == self.next_number) {
            Form::Deflated
        } else {
            Form::Frames
        }
    }

    /// It has taken bytes of a batch in `form`, and the last one if it `is_through`.
    pub(crate) fn go_on(&mut self, batch: &Batch, form: Form, is_through: bool) {
        if self.takes != Form::Deflated {
            return;
        }
        self.reads = if is_through { Form::Frames } else { form };
        let Some(mark) = batch.mark() else {
            // The window has not seen this batch.
            return;
        };
        if form != Form::Deflated {
            self.next_number = 0;
        } else if is_through {
            self.next_number = after(mark.number);
        }
    }

    /// It is moved past messages that it has not taken.
    pub(crate) fn jump(&mut self) {
        *self = Reader::new(self.takes);
    }
}
