/** Many requests, a few at a time, with patience for a busy service. */

const AT_ONCE = 3;
const WAITS = 5;

/** Runs work(job) for every job. Rejects with the first error; whoever shares a signal with the others ends them then. */
export async function each(jobs, work) {
  const waiting = jobs.values();
  const worker = async () => {
    for (const job of waiting) await work(job);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** What ask() answers; a service that says when to come back is asked again then. Throws what ask() does. */
export async function patiently(ask, signal) {
  for (let n = 1; ; n++) {
    try {
      return await ask();
    } catch (error) {
      const isBusy = (error.status === 429 || error.status === 503) && error.retryAfter > 0;
      if (!isBusy || n > WAITS || signal.aborted) throw error;
      await new Promise((resolve) => { setTimeout(resolve, error.retryAfter * 1000); });
    }
  }
}
