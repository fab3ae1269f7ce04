//! The forms in which a member can read its topic.
//!
//! `port` finds the form in the request. A batch holds its messages in every form that its audience reads.

/// The encoding in which a member reads its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Frames of RFC 6455, without an extension.
    #[default]
    Frames,
    /// Server-sent events.
    Events,
}

impl Form {
    /// The number of forms.
    pub(crate) const COUNT: usize = 2;

    /// The form's place in a table of all forms.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
