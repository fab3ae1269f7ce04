//! The number of members that read a topic, in each form. The topic's owner knows nothing else of them.
//!
//! Shards tell the owner with `Subscribe`, `Publish` and `Members`. Envelopes keep their order, so when the owner makes a
//! batch it knows all who are to get it.

use crate::port::terms::Form;

/// Members by form, with those who are joining.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    by_form: [u32; Form::COUNT],
}

impl Audience {
    /// `count` members that read `form`.
    pub fn of(form: Form, count: u32) -> Self {
        let mut audience = Audience::default();
        audience.by_form[form.index()] = count;
        audience
    }

    /// One more reads `form`.
    pub(crate) fn enter(&mut self, form: Form) {
        self.by_form[form.index()] += 1;
    }

    /// One fewer reads it.
    pub(crate) fn leave(&mut self, form: Form) {
        let count = &mut self.by_form[form.index()];
        debug_assert!(*count > 0, "a member leaves once");
        *count = count.saturating_sub(1);
    }

    /// Adds the members of another shard.
    #[must_use]
    pub(crate) fn with(mut self, other: Audience) -> Self {
        for (count, more) in self.by_form.iter_mut().zip(other.by_form) {
            *count = count.saturating_add(more);
        }
        self
    }

    /// The members that read `form`.
    pub(crate) fn count(self, form: Form) -> u32 {
        self.by_form[form.index()]
    }

    /// Whether some member reads `form`.
    pub(crate) fn reads(self, form: Form) -> bool {
        self.by_form[form.index()] > 0
    }

    /// Whether some form had readers `before` and has none now. It would be made for nobody.
    pub(crate) fn has_lost_a_form(self, before: Audience) -> bool {
        let mut counts = self.by_form.into_iter().zip(before.by_form);
        counts.any(|(now, before)| now == 0 && before > 0)
    }

    /// The members of all forms.
    pub(crate) fn total(self) -> u32 {
        self.by_form.into_iter().fold(0, u32::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_lost_with_its_last_reader() {
        let mut before = Audience::of(Form::Frames, 2);
        before.enter(Form::Events);
        before.enter(Form::Events);
        let mut now = before;
        now.leave(Form::Events);
        assert!(now.reads(Form::Events) && !now.has_lost_a_form(before));
        now.leave(Form::Events);
        assert!(!now.reads(Form::Events) && now.has_lost_a_form(before));
        assert!(!before.has_lost_a_form(now));
        assert_eq!((before.total(), now.total()), (4, 2));
    }

    #[test]
    fn audiences_of_shards_add_up() {
        let mut here = Audience::of(Form::Frames, 2);
        here.enter(Form::Frames);
        let all = here.with(Audience::of(Form::Frames, 4));
        assert_eq!(all.total(), 7);
        here.leave(Form::Frames);
        assert_eq!(here.total(), 2);
        assert_eq!(
            Audience::of(Form::Frames, u32::MAX).with(all).total(),
            u32::MAX
        );
    }
}
