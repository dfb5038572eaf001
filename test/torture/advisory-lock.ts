/** flock(2) and fcntl(2) with F_SETLKW on whole files, which node:fs does not have. */
import koffi from 'koffi';
import { LibcError } from '../posix/libc.js';

const libc = koffi.load('libc.so.6');
const flock: (fd: number, operation: number) => number = libc.func('int flock(int, int)');
const fcntl: (fd: number, command: number, lock: Buffer) => number = libc.func(
  'int fcntl(int, int, const void *)',
);

const LOCK_EX = 2;
const F_SETLKW = 7;
const F_WRLCK = 1;
const FLOCK_BYTES = 32;

/** Waits for the lock; closing the file gives it back. **Errors:** LibcError. */
export function lockWhole(fd: number, how: 'flock' | 'fcntl'): void {
  const lock = Buffer.alloc(FLOCK_BYTES);
  lock.writeInt16LE(F_WRLCK, 0);
  const result = how === 'flock' ? flock(fd, LOCK_EX) : fcntl(fd, F_SETLKW, lock);
  if (result === -1) throw new LibcError(how, koffi.errno());
}
