//! Members that stand still for a while, as a process does between SIGSTOP and SIGCONT: time
//! goes on, messages wait, and what they know grows old.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Holds the tasks of one member. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Hold(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    is_held: bool,
    /// Who is to be polled when it goes on.
    waiting: Vec<Waker>,
}

tokio::task_local! {
    /// The member that a task is of. Tasks that it spawns are of the same.
    static OF: Hold;
}

impl Hold {
    pub(in super::super) fn stop(&self) {
        self.0.lock().unwrap().is_held = true;
    }

    pub(in super::super) fn go_on(&self) {
        let waiting = {
            let mut held = self.0.lock().unwrap();
            held.is_held = false;
            std::mem::take(&mut held.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// `future` as part of the member.
    pub(in super::super) fn over<F: Future>(&self, future: F) -> Holding<F> {
        Holding { hold: Some(self.clone()), future: Box::pin(future) }
    }
}

/// `future` as part of the member whose task the caller is.
pub(in super::super) fn held<F: Future>(future: F) -> Holding<F> {
    Holding { hold: OF.try_with(Clone::clone).ok(), future: Box::pin(future) }
}

/// A future that is not polled while its member stands still.
pub(in super::super) struct Holding<F> {
    hold: Option<Hold>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Holding<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let Some(hold) = this.hold.clone() else { return this.future.as_mut().poll(context) };
        {
            let mut held = hold.0.lock().unwrap();
            if held.is_held {
                held.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        OF.sync_scope(hold, || this.future.as_mut().poll(context))
    }
}

#[test]
fn what_is_held_is_not_polled_and_goes_on_later_with_what_it_spawns() {
    super::simulate(async {
        let hold = Hold::default();
        let steps = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&steps);
        let task = tokio::spawn(hold.over(async move {
            // A task of a task stands still, too.
            let inner = tokio::spawn(held(async move {
                loop {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    *counted.lock().unwrap() += 1;
                }
            }));
            inner.await.unwrap()
        }));
        let wait = || tokio::time::sleep(std::time::Duration::from_millis(105));
        wait().await;
        assert_eq!(*steps.lock().unwrap(), 10);
        hold.stop();
        wait().await;
        assert_eq!(*steps.lock().unwrap(), 10);
        hold.go_on();
        wait().await;
        assert!(*steps.lock().unwrap() > 15);
        task.abort();
    });
}
