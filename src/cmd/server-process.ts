/**
 * The life of a metadata or chunk server's process: say that it is ready, serve until told to stop, stop in
 * bounded time.
 */
import { makeLog } from '../base/log.js';
import { limits } from '../proto/limits.js';
import { CommandError, lineOf } from './command-error.js';
import { reportReady } from './daemon.js';
import { isLoopback, type ListenAddress } from './option-values.js';
import { Termination } from './termination.js';

const log = makeLog('cmd');

interface Server {
  readonly url: string;
  /** Resolves with the reason when the server cannot go on. */
  readonly failed?: Promise<Error>;
  stop(): Promise<void>;
}

/** Starts a server and returns once it has stopped, which a signal asks for. A second signal ends it at once. */
export async function runServer(options: {
  name: string;
  dataDir: string;
  listen: ListenAddress;
  start: () => Promise<Server>;
}): Promise<void> {
  const termination = new Termination((signal) => {
    log.warn(`second ${signal}: ending at once`);
    process.exit(1);
  });
  if (!isLoopback(options.listen.host))
    log.warn(
      'connections are not authenticated in this version: whoever reaches this address reads and writes everything',
      { host: options.listen.host },
    );
  const server = await options.start();
  console.log(`leasefs ${options.name}: serving ${options.dataDir} at ${server.url}`);
  await reportReady({ url: server.url });
  const end = await Promise.race([
    termination.requested,
    ...(server.failed === undefined ? [] : [server.failed]),
  ]);
  log.info('stopping', { server: options.name, why: end });
  await stopInTime(server);
  log.info('stopped', { server: options.name });
  if (end instanceof Error) throw new CommandError(lineOf(end));
}

async function stopInTime(server: Server): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new CommandError(`did not stop within ${limits.serverStopMs / 1000} s`)),
      limits.serverStopMs,
    );
  });
  try {
    await Promise.race([server.stop(), late]);
  } finally {
    clearTimeout(timer);
  }
}
