/**
 * The C library and libuv, called from TypeScript: the one file that knows koffi. It gives the driver what
 * Node does not: non-blocking reads that do not throw, mount(2), receiving a descriptor over a socket, and
 * libuv's own readiness watch for a descriptor that Node has no stream for.
 *
 * Invariant: every call here returns at once or, where it waits, within the time it is given.
 *
 * It does not: know what the bytes mean.
 *
 * **Source:** the man pages named below; docs.libuv.org/en/v1.x/poll.html; native-notes/fuse-kernel.md.
 */
import koffi from 'koffi';
import { assert } from '../base/assert.js';

const lib = koffi.load(null);

const cRead = lib.func('int64_t read(int fd, void *buffer, size_t count)');
const cWrite = lib.func('int64_t write(int fd, void *buffer, size_t count)');
const cPpoll = lib.func('int ppoll(void *fds, unsigned long count, void *timeout, void *signals)');
const cMount = lib.func(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
);
const cSocketpair = lib.func('int socketpair(int domain, int type, int protocol, void *fds)');
const cRecvmsg = lib.func('int64_t recvmsg(int fd, void *message, int flags)');
const cFcntl = lib.func('int fcntl(int fd, int command, int argument)');

const numberOf = (value: unknown): number => Number(value);

/**
 * read(2) into `into`. Result: the bytes read, 0 at the end, or minus the errno. A function of this shape
 * costs about 0.2 µs beyond the system call and, unlike fs.readSync, makes no Error for EAGAIN.
 */
export function readInto(fd: number, into: Buffer): number {
  const count = numberOf(cRead(fd, into, into.length));
  return count >= 0 ? count : -koffi.errno();
}

/** write(2) of all of `bytes`. Result: the bytes written or minus the errno. */
export function writeFrom(fd: number, bytes: Uint8Array): number {
  const count = numberOf(cWrite(fd, bytes, bytes.length));
  return count >= 0 ? count : -koffi.errno();
}

/** mount(2). Result: 0 or minus the errno. */
export function mount(options: {
  source: string;
  target: string;
  type: string;
  flags: number;
  data: string;
}): number {
  const result = numberOf(cMount(options.source, options.target, options.type, options.flags, options.data));
  return result === 0 ? 0 : -koffi.errno();
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const FD_CLOEXEC = 1;
const O_NONBLOCK = 0o4000;

/** A pair of connected sockets, closed on exec; undefined when the process has no descriptors left. */
export function socketPair(): [number, number] | undefined {
  const fds = Buffer.alloc(8);
  if (numberOf(cSocketpair(AF_UNIX, SOCK_STREAM, 0, fds)) !== 0) return undefined;
  const pair: [number, number] = [fds.readInt32LE(0), fds.readInt32LE(4)];
  for (const fd of pair) cFcntl(fd, F_SETFD, FD_CLOEXEC);
  return pair;
}

/** Makes reads of `fd` return EAGAIN instead of waiting, or wait again. */
export function setNonBlocking(fd: number, nonBlocking: boolean): void {
  const flags = numberOf(cFcntl(fd, F_GETFL, 0));
  cFcntl(fd, F_SETFL, nonBlocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

/**
 * The descriptor that a message waiting on socket `fd` carries (unix(7), SCM_RIGHTS), closed on exec;
 * undefined when there is no message or no descriptor in it. LP64 layouts of msghdr and cmsghdr.
 */
export function receiveDescriptor(fd: number): number | undefined {
  const byte = Buffer.alloc(8);
  const control = Buffer.alloc(64);
  const iovec = Buffer.alloc(16);
  iovec.writeBigUInt64LE(koffi.address(byte), 0);
  iovec.writeBigUInt64LE(1n, 8);
  const message = Buffer.alloc(56);
  message.writeBigUInt64LE(koffi.address(iovec), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(koffi.address(control), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  if (numberOf(cRecvmsg(fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) <= 0) return undefined;
  if (message.readBigUInt64LE(40) < 20n) return undefined;
  if (control.readInt32LE(8) !== SOL_SOCKET || control.readInt32LE(12) !== SCM_RIGHTS) return undefined;
  return control.readInt32LE(16);
}

const POLLIN = 1;
const POLLERR = 8;

/** What a poll found: the watched descriptor, the event loop's other work, or nothing. */
export type Readiness = 'watched' | 'loop' | 'nothing';

/** Libuv's watch over one descriptor, in the event loop of the main thread. */
export interface DescriptorWatch {
  /** Looks without waiting whether `fd` or anything else that the event loop waits for is ready. */
  look(): Readiness;
  /** As `look`, but lets the core go for up to `waitMs` (below 1000) until one of them is. */
  wait(waitMs: number): Readiness;
  /** Ends the watch; the descriptor may then be closed. */
  close(): void;
}

interface Uv {
  readonly loop: unknown;
  readonly backendFd: number;
  readonly pollBytes: number;
  readonly init: (loop: unknown, handle: unknown, fd: number) => unknown;
  readonly start: (handle: unknown, events: number, callback: unknown) => unknown;
  readonly close: (handle: unknown, callback: null) => unknown;
  readonly callbackType: ReturnType<typeof koffi.proto>;
}

const UV_POLL = 8;
const UV_READABLE = 1;

/** Libuv's functions where this Node exports them (it does, unless built without its symbols). */
function findUv(): Uv | undefined {
  try {
    const typeName = lib.func('const char *uv_handle_type_name(int type)');
    if (typeName(UV_POLL) !== 'poll') return undefined;
    const loop: unknown = lib.func('void *uv_default_loop()')();
    return {
      loop,
      backendFd: numberOf(lib.func('int uv_backend_fd(void *loop)')(loop)),
      pollBytes: numberOf(lib.func('size_t uv_handle_size(int type)')(UV_POLL)),
      init: lib.func('int uv_poll_init(void *loop, void *handle, int fd)'),
      start: lib.func('int uv_poll_start(void *handle, int events, void *callback)'),
      close: lib.func('void uv_close(void *handle, void *callback)'),
      callbackType: koffi.proto('void leasefs_uv_poll_cb(void *handle, int status, int events)'),
    };
  } catch {
    return undefined;
  }
}

const uv = findUv();

/** Whether `watchReadable` can be used in this process. */
export const canWatch = uv !== undefined && uv.backendFd >= 0;

/**
 * Has the event loop watch `fd` (which becomes non-blocking) and call `onReady` in the loop's poll phase as
 * long as it is readable or broken. Costs no thread. `onReady` must be short and must not throw: it runs
 * outside of Node's callback scope, where no microtask follows it; setImmediate in it is what is meant.
 */
export function watchReadable(fd: number, onReady: () => void): DescriptorWatch {
  assert(uv !== undefined, 'canWatch was asked');
  const handle: unknown = koffi.alloc('char', uv.pollBytes);
  const pollfds = Buffer.alloc(16);
  pollfds.writeInt32LE(fd, 0);
  pollfds.writeInt16LE(POLLIN, 4);
  pollfds.writeInt32LE(uv.backendFd, 8);
  pollfds.writeInt16LE(POLLIN, 12);
  const callback = koffi.register(onReady, koffi.pointer(uv.callbackType));
  const failed = numberOf(uv.init(uv.loop, handle, fd)) || numberOf(uv.start(handle, UV_READABLE, callback));
  assert(failed === 0, `libuv watches descriptor ${fd}`);
  const timespec = Buffer.alloc(16);
  const wait = (waitMs: number): Readiness => {
    timespec.writeUInt32LE(Math.floor(waitMs * 1e6), 8);
    if (numberOf(cPpoll(pollfds, 2, timespec, null)) <= 0) return 'nothing';
    return (pollfds.readInt16LE(6) & (POLLIN | POLLERR)) !== 0 ? 'watched' : 'loop';
  };
  return {
    look: () => wait(0),
    wait,
    close() {
      uv.close(handle, null);
      // Libuv unlinks the handle at the end of this turn of the loop; its memory and callback go after that.
      setImmediate(() =>
        setImmediate(() => {
          koffi.unregister(callback);
          koffi.free(handle);
        }),
      );
    },
  };
}
