#!/usr/bin/env node
/**
 * The executable. It reads the command line, hands over to one command, and turns how that ended into an exit
 * status: 0 ok; 1 it could not be done, said in one line; 2 it was not understood.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { MountError } from '../fuse/mount-error.js';
import { chunkCommand } from './chunk.js';
import { CommandError, ExitCode, lineOf, UsageError } from './command-error.js';
import { exitCodeOf, isDaemon, reportFailure } from './daemon.js';
import { downCommand } from './down.js';
import { metaCommand } from './meta.js';
import { mountCommand } from './mount.js';
import { statusCommand } from './status.js';
import { umountCommand } from './umount.js';
import { upCommand } from './up.js';

function version(): string {
  const description: unknown = JSON.parse(
    readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
  );
  const isObject = typeof description === 'object' && description !== null;
  return isObject && 'version' in description ? String(description.version) : 'unknown';
}

function makeProgram(): Command {
  const program = new Command('leasefs')
    .description('A distributed filesystem that feels like a local disk.')
    .version(version())
    .addHelpText('after', '\nExit status: 0 ok; 1 it could not be done; 2 usage.');
  const commands = [
    upCommand(),
    downCommand(),
    mountCommand(),
    umountCommand(),
    statusCommand(),
    metaCommand(),
    chunkCommand(),
  ];
  for (const command of commands) program.addCommand(command);
  for (const command of [program, ...commands]) {
    command.exitOverride();
    command.showHelpAfterError(`Usage: ${usageOf(program, command)}\n(--help explains)`);
  }
  return program;
}

function usageOf(program: Command, command: Command): string {
  const name = command === program ? 'leasefs' : `leasefs ${command.name()}`;
  return `${name} ${command.usage()}`;
}

/** Says what went wrong, to the starter of a daemon too, and gives the exit status. */
async function conclude(program: Command, error: unknown): Promise<number> {
  // commander has printed its help or its complaint already.
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return ExitCode.ok;
    if (isDaemon()) await reportFailure(new UsageError(error.message));
    return ExitCode.usage;
  }
  const name = process.argv[2];
  const command = program.commands.find((each) => each.name() === name);
  const prefix = command === undefined ? 'leasefs' : `leasefs ${command.name()}`;
  console.error(`${prefix}: ${lineOf(error)}`);
  if (error instanceof UsageError)
    console.error(`Usage: ${usageOf(program, command ?? program)}\n(--help explains)`);
  // What was not foreseen leaves its trace in the daemon's log, or where it was asked for.
  else if (
    !(error instanceof CommandError || error instanceof MountError) &&
    (isDaemon() || process.env.LEASEFS_DEBUG !== undefined)
  )
    console.error(error);
  await reportFailure(error);
  return exitCodeOf(error);
}

const program = makeProgram();
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = await conclude(program, error);
}
// A command that has returned is over, whatever timers and sockets it leaves.
process.exit();
