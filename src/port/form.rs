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
    /// Frames that may be compressed with the window of the topic (RFC 7692). Its readers get plain frames where a batch has no
    /// compressed ones, or has some that they could not read.
    Deflated,
}

impl Form {
    /// The number of forms.
    pub(crate) const COUNT: usize = 3;

    /// The form in which a reader of this one gets kept messages. The window has forgotten them.
    #[must_use]
    pub(crate) const fn of_kept(self) -> Form {
        match self {
            Form::Frames | Form::Deflated => Form::Frames,
            Form::Events => Form::Events,
        }
    }

    /// The form's place in a table of all forms.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
