/**
 * A metadata server as a process of its own, to be killed. `node serve-until-killed.js DIRECTORY`; prints its
 * URL once it serves.
 */
import { startMetaServer } from '../../src/meta/server.js';

const dataDir = process.argv[2];
if (dataDir === undefined) throw new Error('which directory?');
const server = await startMetaServer({ dataDir, host: '127.0.0.1', port: 0, replicas: 1 });
process.stdout.write(`${server.url}\n`);
