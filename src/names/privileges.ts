/**
 * What a file loses when its content or owner changes: setuid, setgid where the group may execute, and the
 * capabilities kept in an xattr. Whether a writer is privileged enough to keep them the kernel knows and
 * says (`clearPrivileges`); chown takes them always, and truncation the capabilities.
 * **Source:** setattr_should_drop_suidgid (fs/attr.c), FUSE_HANDLE_KILLPRIV_V2 (include/uapi/linux/fuse.h).
 */
import { S_ISGID, S_ISUID } from '../proto/attr.js';
import { ask, type Reading } from './operation.js';
import type { InodeRow, RowChange } from './rows.js';

const S_IXGRP = 0o010;
const CAPABILITY = Buffer.from('security.capability');

/** The mode without setuid, and without setgid where it means a group and not mandatory locking. */
export function unprivilegedMode(mode: number): number {
  const setgid = (mode & S_IXGRP) !== 0 ? S_ISGID : 0;
  return mode & ~(S_ISUID | setgid);
}

/** Removes the file capabilities of an inode, if it has some. */
export function* dropCapability(row: InodeRow): Reading<RowChange[]> {
  const held = yield* ask({ read: 'xattr', ino: row.ino, name: CAPABILITY });
  return held === undefined ? [] : [{ delete: 'xattr', ino: row.ino, name: CAPABILITY }];
}
