/**
 * Tells mounts what others have removed for good, so that programs there that watch it hear of it (inotify). Nobody
 * waits for it and nothing depends on it: it is told once, and not at all when a mount has not taken what came
 * before, or when more is removed at once than one message holds.
 */
import { makeLog } from '../base/log.js';
import type { RowChange } from '../names/rows.js';
import type { Ino, SessionId } from '../proto/ids.js';
import type { Removal } from '../proto/lease-methods.js';
import { limits } from '../proto/limits.js';
import type { Sessions } from './sessions.js';

const log = makeLog('meta');

interface Place {
  readonly parent?: Ino;
  readonly name?: Uint8Array;
  readonly newParent?: Ino;
  readonly newName?: Uint8Array;
}

/** What a mutation with these arguments and changes has taken the last name of, and where that was. */
export function removalOf(method: string, args: object, changes: readonly RowChange[]): Removal | undefined {
  const { parent, name, newParent, newName }: Place = args;
  const isRename = method === 'rename';
  if (!isRename && method !== 'unlink' && method !== 'rmdir') return undefined;
  const [directory, place] = isRename ? [newParent, newName] : [parent, name];
  if (directory === undefined || place === undefined) return undefined;
  for (const change of changes) {
    const isOrphan = 'put' in change && change.put === 'inode' && change.row.nlink === 0;
    if (isOrphan) return { parent: directory, name: place, ino: change.row.ino };
    if ('delete' in change && change.delete === 'inode')
      return { parent: directory, name: place, ino: change.ino };
  }
  return undefined;
}

export class RemovedPush {
  readonly #sessions: Sessions;
  /** Of this turn. */
  #removed: { readonly by: SessionId; readonly removal: Removal }[] = [];
  /** Who has not taken the last message. */
  readonly #busy = new Set<SessionId>();

  constructor(sessions: Sessions) {
    this.#sessions = sessions;
  }

  /** `by`: whose doing it was; its kernel knows. */
  note(by: SessionId, removal: Removal): void {
    if (this.#removed.length >= limits.removalsPerMessage) return;
    this.#removed.push({ by, removal });
    if (this.#removed.length === 1) setImmediate(() => this.#send());
  }

  #send(): void {
    const removed = this.#removed;
    this.#removed = [];
    for (const { id, row, connection } of this.#sessions.all()) {
      const others = removed.filter(({ by }) => by !== id).map(({ removal }) => removal);
      if (!row.leases || connection === undefined || others.length === 0 || this.#busy.has(id)) continue;
      this.#busy.add(id);
      connection.end
        .sendRemoved(others)
        .catch((error: unknown) => log.debug('a mount was not told of removals', { session: id, error }))
        .finally(() => this.#busy.delete(id));
    }
  }
}
