// Asks again and again, one round after the other has ended: slower where nothing can change or
// nobody answers, not at all while nobody looks.

const SLOWEST_MS = 15000;
const GROWTH = 1.6;

export class Poller {
  /** `round`: asks; resolves to the milliseconds until it should again. May raise. */
  constructor(round, { onFailure }) {
    this.round = round;
    this.onFailure = onFailure;
    this.failures = 0;
    this.timer = null;
    this.busy = false;
    this.again = false;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.now();
    });
  }

  /** A round at once; after the one that runs, if one does. */
  now() {
    clearTimeout(this.timer);
    if (this.busy) this.again = true;
    else this.run();
  }

  async run() {
    this.busy = true;
    let pauseMs = SLOWEST_MS;
    try {
      pauseMs = await this.round();
      this.failures = 0;
    } catch (error) {
      this.failures += 1;
      pauseMs = Math.min(SLOWEST_MS, 1000 * GROWTH ** this.failures);
      this.onFailure(error, pauseMs);
    }
    this.busy = false;
    if (this.again) {
      this.again = false;
      this.run();
    } else if (!document.hidden && Number.isFinite(pauseMs)) {
      this.timer = setTimeout(() => this.run(), Math.min(pauseMs, SLOWEST_MS));
    }
  }
}
