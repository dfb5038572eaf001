/**
 * Commits of a mount: what was closed under a lease that may have ended since is said so, and what others have
 * overtaken is put elsewhere.
 */
import type { Ino } from '../proto/ids.js';
import type { CommitArgs } from './commit-message.js';
import type { CommitReply } from './commit-queue.js';
import type { KeptWrites } from './kept-writes.js';
import type { LostAndFound } from './lost-and-found.js';

export interface KeptCommitsOptions {
  readonly kept: KeptWrites;
  readonly lost: LostAndFound;
  readonly commit: (args: CommitArgs) => Promise<CommitReply>;
  /** What this mount has asked the server to change is done, or nobody can wait for it. */
  readonly untilQuiet: () => Promise<void>;
  /** The contents of this file are others'. */
  readonly onOvertaken: (ino: Ino) => void;
}

const OVERTAKEN = 'others have changed the file while this mount was silent';

/** **Errors:** those of commit. */
export async function commitKept(options: KeptCommitsOptions, args: CommitArgs): Promise<CommitReply> {
  const { kept, lost, commit, onOvertaken } = options;
  // A change of this mount that is on its way is none of others', and comes first.
  if (args.files.some(({ ino }) => kept.since(ino) !== undefined)) await options.untilQuiet();
  const files = args.files.map((file) => {
    const since = kept.since(file.ino);
    return since === undefined ? file : { ...file, since };
  });
  const reply = await commit({ ...args, files });
  kept.changedThere(reply.attrs);
  for (const { ino, since } of files) {
    if (since === undefined || !reply.missing.includes(ino)) continue;
    kept.overtaken(ino, (write) => lost.written(write, OVERTAKEN));
    onOvertaken(ino);
  }
  return reply;
}
