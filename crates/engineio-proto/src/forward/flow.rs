//! How much of a WebSocket may be on its way between two servers, and whether all of it arrives.

use std::fmt;

/// What may be sent before the other side has passed it on, in bytes with [`MESSAGE_COST`] for each message.
pub const WINDOW: u64 = 256 << 10;

/// What a message costs besides its bytes, so that many small ones are bounded, too.
pub const MESSAGE_COST: u64 = 64;

/// Both directions of one tunnel, seen from one side. Places are counted in bytes and messages together, so whatever is missing,
/// doubled or out of order shows at once.
#[derive(Debug, Clone)]
pub struct Flow {
    sent: u64,
    allowed: u64,
    received: u64,
    consumed: u64,
    granted: u64,
}

/// The other side does not keep to the rules, or something was lost on the way. The tunnel is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowError {
    /// Not what comes next.
    Gap,
    /// More than was allowed.
    Overflow,
    /// A message without bytes.
    Empty,
    /// Leave to send more than could be, or less than before.
    Credit,
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => "something is missing",
            Self::Overflow => "more than was allowed",
            Self::Empty => "a message without bytes",
            Self::Credit => "leave that makes no sense",
        })
    }
}

impl std::error::Error for FlowError {}

impl Default for Flow {
    fn default() -> Self {
        Self { sent: 0, allowed: WINDOW, received: 0, consumed: 0, granted: WINDOW }
    }
}

fn cost(len: usize) -> u64 {
    len as u64 + MESSAGE_COST
}

impl Flow {
    /// How many bytes the next message may have. Zero: wait for leave.
    pub fn room(&self) -> usize {
        usize::try_from(self.allowed.saturating_sub(self.sent).saturating_sub(MESSAGE_COST)).unwrap_or(usize::MAX)
    }

    /// A message of so many bytes is sent. Returns its place.
    pub fn send(&mut self, len: usize) -> u64 {
        let place = self.sent;
        self.sent += cost(len);
        place
    }

    /// Where the next message would be: the place of the end.
    pub fn end(&self) -> u64 {
        self.sent
    }

    /// A message has come.
    ///
    /// # Errors
    /// [`FlowError`] when it is not the next one, or one too many.
    pub fn receive(&mut self, place: u64, len: usize) -> Result<(), FlowError> {
        if len == 0 {
            return Err(FlowError::Empty);
        }
        if place != self.received {
            return Err(FlowError::Gap);
        }
        let received = self.received + cost(len);
        if received > self.granted {
            return Err(FlowError::Overflow);
        }
        self.received = received;
        Ok(())
    }

    /// The other side will send no more.
    ///
    /// # Errors
    /// [`FlowError::Gap`] when something is missing before its end.
    pub fn receive_end(&self, place: u64) -> Result<(), FlowError> {
        if place == self.received { Ok(()) } else { Err(FlowError::Gap) }
    }

    /// A message of so many bytes was passed on, all of it.
    pub fn consume(&mut self, len: usize) {
        self.consumed = (self.consumed + cost(len)).min(self.received);
    }

    /// The leave to send that the other side is to be given now: each time half of a window was passed on.
    pub fn grant(&mut self) -> Option<u64> {
        let allowed = self.consumed + WINDOW;
        (allowed - self.granted >= WINDOW / 2).then(|| {
            self.granted = allowed;
            allowed
        })
    }

    /// The other side allows more, up to this place.
    ///
    /// # Errors
    /// [`FlowError::Credit`] when it takes back what it has given, or has passed on more than was sent.
    pub fn allow(&mut self, upto: u64) -> Result<(), FlowError> {
        if upto < self.allowed || upto > self.sent.saturating_add(WINDOW) {
            return Err(FlowError::Credit);
        }
        self.allowed = upto;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_bounded_until_it_was_passed_on() {
        let (mut one, mut other) = (Flow::default(), Flow::default());
        let mut total = 0;
        for round in 0..1_000 {
            let len = one.room().min(1_000 + round * 7);
            if len == 0 {
                // Half of the window is always enough to go on.
                panic!("stuck in round {round}");
            }
            other.receive(one.send(len), len).expect("in order");
            assert!(other.received - other.consumed <= WINDOW);
            other.consume(len);
            total += len;
            if let Some(upto) = other.grant() {
                one.allow(upto).expect("more");
            }
        }
        assert!(total > 1_000_000);
        assert_eq!(other.receive_end(one.end()), Ok(()));
    }

    #[test]
    fn many_small_messages_fill_the_window_too() {
        let mut flow = Flow::default();
        let mut messages = 0;
        while flow.room() > 0 {
            flow.send(1);
            messages += 1;
        }
        assert_eq!(messages, (WINDOW - 1) / (MESSAGE_COST + 1));
    }

    #[test]
    fn what_is_lost_doubled_or_too_much_ends_it() {
        let mut flow = Flow::default();
        assert_eq!(flow.receive(0, 0), Err(FlowError::Empty));
        assert_eq!(flow.receive(1, 10), Err(FlowError::Gap));
        assert_eq!(flow.receive(0, 10), Ok(()));
        assert_eq!(flow.receive(0, 10), Err(FlowError::Gap));
        assert_eq!(flow.receive(10, 10), Err(FlowError::Gap));
        assert_eq!(flow.receive(74, WINDOW as usize), Err(FlowError::Overflow));
        assert_eq!(flow.receive(74, usize::MAX - 1_000), Err(FlowError::Overflow));
        assert_eq!(flow.receive_end(0), Err(FlowError::Gap));
        assert_eq!(flow.receive_end(74), Ok(()));
        assert_eq!(flow.allow(0), Err(FlowError::Credit));
        assert_eq!(flow.allow(WINDOW + 1), Err(FlowError::Credit));
        assert_eq!(flow.allow(u64::MAX), Err(FlowError::Credit));
        assert_eq!(flow.allow(WINDOW), Ok(()));
        flow.send(100);
        assert_eq!(flow.allow(WINDOW + 164), Ok(()));
        assert_eq!(flow.allow(WINDOW), Err(FlowError::Credit));
    }

    #[test]
    fn leave_is_given_in_few_messages() {
        let mut flow = Flow::default();
        flow.receive(0, 1_000).expect("the first");
        flow.consume(1_000);
        assert_eq!(flow.grant(), None);
        let len = (WINDOW / 2) as usize;
        flow.receive(1_064, len).expect("the second");
        flow.consume(len);
        assert_eq!(flow.grant(), Some(WINDOW + 1_064 + WINDOW / 2 + 64));
        assert_eq!(flow.grant(), None);
    }
}
