/**
 * The differential fuzzer between the host's filesystem and a mount: a short run, or, by `make fuzz`, as many
 * operations as LEASEFS_FUZZ_OPERATIONS says, from LEASEFS_FUZZ_SEED on. A difference is printed, shrunk.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { Cluster } from './cluster.js';
import { attempt, type ProgramOutcome } from './on-mount.js';

const FUZZER = fileURLToPath(new URL('../posix/differential.js', import.meta.url));
const SEED = process.env.LEASEFS_FUZZ_SEED ?? '1';
const OPERATIONS = Number(process.env.LEASEFS_FUZZ_OPERATIONS ?? 400);
/** Many times what an operation takes on a quiet machine, plus shrinking. */
const TIMEOUT_MS = 120_000 + OPERATIONS * 100;
t.setTimeout(2 * TIMEOUT_MS);

/** Where the project is, as for the table of checks: /tmp may be a tmpfs. */
function hostDirectory(t: Test): string {
  const path = mkdtempSync(fileURLToPath(new URL('./work-', import.meta.url)));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function compare(reference: string, subject: string, options: string): Promise<ProgramOutcome> {
  const without = process.geteuid?.() === 0 ? '' : '--without devices';
  const script = `exec '${process.execPath}' '${FUZZER}' --reference '${reference}' --subject '${subject}' ${without} ${options}`;
  return attempt(script, { cwd: '/', timeoutMs: TIMEOUT_MS });
}

t.test('the fuzzer finds a call that lies, and shrinks the way there', { timeout: TIMEOUT_MS }, async (t) => {
  const host = hostDirectory(t);
  const { status, stdout } = await compare(host, host, '--operations 400 --lie rename');
  t.equal(status, 1);
  t.match(stdout, /difference in round 1, operation \d+: rename: ok \/ EIO/);
  t.ok(stdout.split('\n').length < 12, stdout);
  t.match(await compare(host, host, '--operations 2000'), { status: 0 });
});

t.test('a mount does what the host’s filesystem does', { timeout: TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'differential', chunkServers: 1, replicas: 1 });
  const options = process.geteuid?.() === 0 ? 'dev' : '';
  const mount = await cluster.mount(options === '' ? {} : { options });
  const { status, stdout, stderr } = await compare(
    hostDirectory(t),
    mount.path,
    `--seed ${SEED} --operations ${OPERATIONS}`,
  );
  t.equal(status, 0, `${stdout}${stderr}`.trim());
  await cluster.untilHealthy();
});
