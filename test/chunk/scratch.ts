/** A directory for one test, removed after everything that the test itself tears down. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

export function scratch(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'leasefs-chunk-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
