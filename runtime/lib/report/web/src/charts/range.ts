// What is seen of an axis; charts that share one zoom together.

export class Range {
  begin = 0;
  end: number;
  private listeners: (() => void)[] = [];
  private growth: (() => void)[] = [];

  constructor(public full: number) {
    this.end = full;
  }

  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** Called before the listeners when there is more on the axis. */
  onGrowth(listener: () => void): void {
    this.growth.push(listener);
  }

  /** The whole is now `full`; what shows all of it goes on to do so. */
  grow(full: number): void {
    const all = !this.zoomed;
    this.full = full;
    this.growth.forEach((listener) => listener());
    if (all) this.fit();
    else this.show(this.begin, this.end);
  }

  get zoomed(): boolean {
    return this.end - this.begin < this.full;
  }

  /** Shows [begin, end], moved and cut to lie in the whole. */
  show(begin: number, end: number): void {
    const width = Math.min(this.full, Math.max(end - begin, this.full * 1e-5));
    this.begin = Math.min(Math.max(0, begin), this.full - width);
    this.end = this.begin + width;
    this.listeners.forEach((listener) => listener());
  }

  /** Factor below 1: closer. `at` stays where it is. */
  zoom(factor: number, at = (this.begin + this.end) / 2): void {
    this.show(at - (at - this.begin) * factor, at + (this.end - at) * factor);
  }

  /** By a part of what is seen. */
  pan(part: number): void {
    const by = part * (this.end - this.begin);
    this.show(this.begin + by, this.end + by);
  }

  fit(): void {
    this.show(0, this.full);
  }

  reveal(begin: number, end: number): void {
    if (begin >= this.begin && end <= this.end) return;
    const width = Math.max(this.end - this.begin, end - begin);
    const middle = (begin + end) / 2;
    this.show(middle - width / 2, middle + width / 2);
  }
}
