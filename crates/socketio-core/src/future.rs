//! The futures of handlers, in memory that is used again.
//!
//! A handler is called for every event, and most are done when they are first polled; asking for memory and giving it back
//! would cost as much as all else about calling one. So each thread keeps one empty place for each type of future. A
//! place that is given back on another thread serves that one.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a called handler does until its reply is on its way.
///
/// # Cancel safety
/// Dropping it stops the handler where it stands; then no reply is sent.
#[must_use = "a handler does nothing until its future is polled"]
pub struct HandlerFuture(Option<Pin<Box<dyn Place>>>);

impl HandlerFuture {
    /// A future of your own as that of a handler.
    pub fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut place = spare().unwrap_or_else(|| Box::pin(None));
        place.set(Some(future));
        Self(Some(place))
    }
}

impl Future for HandlerFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(place) => place.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for HandlerFuture {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            place.give_back();
        }
    }
}

impl fmt::Debug for HandlerFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerFuture")
    }
}

/// Room for one future, which it may hold: `Option<F>`.
trait Place: Send {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
    fn give_back(self: Pin<Box<Self>>);
}

impl<F: Future<Output = ()> + Send + 'static> Place for Option<F> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Ready(()),
        }
    }

    fn give_back(mut self: Pin<Box<Self>>) {
        // Whatever the handler holds is dropped before anything is borrowed.
        self.as_mut().set(None);
        if size_of::<Self>() <= LARGEST {
            keep(self);
        }
    }
}

/// Larger ones are rare, and a thread would hold one of each.
const LARGEST: usize = 2 << 10;
/// How many types of futures a thread remembers.
const TYPES: usize = 64;

thread_local! {
    /// The empty places by the type of their future, the often used in front.
    static SPARE: RefCell<Vec<(TypeId, Box<dyn Any>)>> = const { RefCell::new(Vec::new()) };
}

/// An empty place, or where it was.
struct Kept<F>(Option<Pin<Box<Option<F>>>>);

fn spare<F: 'static>() -> Option<Pin<Box<Option<F>>>> {
    let take = |spare: &RefCell<Vec<(TypeId, Box<dyn Any>)>>| {
        let mut spare = spare.try_borrow_mut().ok()?;
        let at = spare.iter().position(|(of, _)| *of == TypeId::of::<F>())?;
        if at > 0 {
            spare.swap(at, at - 1);
        }
        let (_, kept) = spare.get_mut(at.saturating_sub(1))?;
        kept.downcast_mut::<Kept<F>>()?.0.take()
    };
    // A thread that ends has none.
    SPARE.try_with(take).ok()?
}

fn keep<F: 'static>(place: Pin<Box<Option<F>>>) {
    let _ = SPARE.try_with(|spare| {
        let Ok(mut spare) = spare.try_borrow_mut() else { return };
        let kept = spare.iter_mut().find(|(of, _)| *of == TypeId::of::<F>());
        match kept.and_then(|(_, kept)| kept.downcast_mut::<Kept<F>>()) {
            Some(kept) => kept.0 = Some(place),
            None => {
                spare.truncate(TYPES - 1);
                spare.push((TypeId::of::<F>(), Box::new(Kept(Some(place)))));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;

    fn poll(future: &mut HandlerFuture) -> Poll<()> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn holding(what: Arc<()>, pending: bool) -> HandlerFuture {
        HandlerFuture::new(async move {
            if pending {
                std::future::pending::<()>().await;
            }
            drop(what);
        })
    }

    #[test]
    fn a_place_is_used_again_and_holds_nothing_meanwhile() {
        let address = |future: &HandlerFuture| {
            let place: *const dyn Place = &**future.0.as_ref().expect("it is not dropped");
            place.cast::<()>()
        };
        let what = Arc::new(());
        let mut first = holding(what.clone(), false);
        let place = address(&first);
        // Both at once need two places.
        let second = holding(what.clone(), true);
        assert_ne!(address(&second), place);
        assert_eq!(poll(&mut first), Poll::Ready(()));
        drop(first);
        assert_eq!(Arc::strong_count(&what), 2);
        let mut third = holding(what.clone(), true);
        assert_eq!(address(&third), place);
        assert_eq!(poll(&mut third), Poll::Pending);
        drop(third);
        drop(second);
        assert_eq!(Arc::strong_count(&what), 1);
    }

    #[test]
    fn a_future_that_is_dropped_may_call_a_handler() {
        struct Calls(Arc<()>);

        impl Drop for Calls {
            fn drop(&mut self) {
                assert_eq!(poll(&mut holding(self.0.clone(), false)), Poll::Ready(()));
            }
        }

        let what = Arc::new(());
        for _ in 0..3 {
            let calls = Calls(what.clone());
            let mut future = HandlerFuture::new(async move {
                let _calls = calls;
                std::future::pending::<()>().await;
            });
            assert_eq!(poll(&mut future), Poll::Pending);
        }
        assert_eq!(Arc::strong_count(&what), 1);
    }

    #[test]
    fn many_types_and_threads_do_no_harm() {
        fn run<const N: usize>(what: &Arc<()>) {
            let what = what.clone();
            let future = HandlerFuture::new(async move {
                let array = [0_u8; N];
                std::future::ready(()).await;
                drop((what, array));
            });
            std::thread::spawn(move || {
                let mut future = future;
                assert_eq!(poll(&mut future), Poll::Ready(()));
            })
            .join()
            .expect("it does not panic");
        }
        let what = Arc::new(());
        for _ in 0..2 {
            run::<0>(&what);
            run::<1>(&what);
            run::<3_000>(&what);
        }
        assert_eq!(Arc::strong_count(&what), 1);
    }
}
