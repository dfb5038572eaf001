import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { type ClusterMap, groupOfChunk, placeGroup, type ServerEntry } from '../../src/proto/cluster-map.js';
import { asChunkId, asClusterId, asServerId } from '../../src/proto/ids.js';

const GROUPS = 1024;
const prng = new Prng(42);

function uuid(): string {
  const hex = prng.bytes(16).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function server(entry: Partial<ServerEntry> = {}): ServerEntry {
  const id = asServerId(uuid());
  return {
    id,
    url: `ws://${id}`,
    host: id,
    rack: '',
    weight: 1,
    state: 'up',
    capacityBytes: 1e12,
    usedBytes: 0,
    ...entry,
  };
}

function clusterMap(servers: ServerEntry[], replicas: number): ClusterMap {
  const clusterId = asClusterId('11111111-2222-3333-4444-555555555555');
  return { clusterId, epoch: 1, groups: GROUPS, replicas, servers };
}

const groups = Array.from({ length: GROUPS }, (_, group) => group);
const placed = (map: ClusterMap): string[][] =>
  groups.map((group) => placeGroup(map, group).replicas.map((entry) => entry.id));

t.test('chunk ids spread evenly over the groups, neighbours and large ids too', async (t) => {
  for (const first of [1, 2 ** 31 - 5000, 2 ** 40, Number.MAX_SAFE_INTEGER - 70_000]) {
    const counts = new Array<number>(64).fill(0);
    for (let index = 0; index < 64_000; index++) {
      const group = groupOfChunk(asChunkId(first + index), 64);
      counts[group] = (counts[group] ?? 0) + 1;
    }
    // 1000 each, standard deviation 31.
    t.ok(Math.min(...counts) > 840 && Math.max(...counts) < 1160, `from ${first}: ${Math.min(...counts)}..`);
  }
  t.equal(groupOfChunk(asChunkId(2 ** 40 + 1), 1), 0, 'with one group there is no choice');
});

t.test('an id keeps its group, and a group its servers, for ever', async (t) => {
  // Data on disks lies where these say: a change here is a change of format.
  t.same(
    [1, 2, 3, 4096, 2 ** 40 + 7].map((id) => groupOfChunk(asChunkId(id), 256)),
    [254, 16, 165, 150, 245],
  );
  const named = ['a', 'b', 'c', 'd'].map((letter) => {
    const id = asServerId(`${letter.repeat(8)}-1111-2222-3333-444444444444`);
    return server({ id, host: letter });
  });
  const map = clusterMap(named, 2);
  t.same(
    [0, 1, 2, 3, 255].map((group) =>
      placeGroup(map, group)
        .replicas.map((entry) => entry.host)
        .join(''),
    ),
    ['cb', 'db', 'ba', 'bd', 'bd'],
  );
});

t.test('the order of the servers in the map does not matter', async (t) => {
  const servers = Array.from({ length: 9 }, () => server());
  t.same(placed(clusterMap([...servers].reverse(), 3)), placed(clusterMap(servers, 3)));
});

t.test('a group has R different servers, or all there are; the others follow, each once', async (t) => {
  for (const count of [0, 1, 2, 3, 8]) {
    const servers = Array.from({ length: count }, () => server());
    const map = clusterMap(servers, 3);
    for (const group of groups) {
      const { replicas, others } = placeGroup(map, group);
      const ids = [...replicas, ...others].map((entry) => entry.id);
      if (replicas.length !== Math.min(3, count) || new Set(ids).size !== count || ids.length !== count)
        t.fail(`group ${group} of ${count} servers: ${ids}`);
    }
    t.pass(`${count} servers`);
  }
});

t.test('being down or full moves nothing', async (t) => {
  const servers = Array.from({ length: 5 }, () => server());
  const before = placed(clusterMap(servers, 2));
  const ill = servers.map((entry, index) => ({
    ...entry,
    state: index === 0 ? ('down' as const) : index === 1 ? ('full' as const) : entry.state,
    usedBytes: 5e11,
    url: 'ws://moved',
  }));
  t.same(placed(clusterMap(ill, 2)), before);
});

t.test('replicas are in different racks, else on different hosts, while there are enough', async (t) => {
  const inRacks = ['r1', 'r2', 'r3'].flatMap((rack) =>
    ['h1', 'h2'].flatMap((host) => [1, 2].map(() => server({ rack, host: `${rack}-${host}` }))),
  );
  const distinct = (map: ClusterMap, label: 'rack' | 'host'): number[] =>
    groups.map((group) => new Set(placeGroup(map, group).replicas.map((entry) => entry[label])).size);
  const three = clusterMap(inRacks, 3);
  t.equal(Math.min(...distinct(three, 'rack')), 3, 'three replicas, three racks');
  const five = clusterMap(inRacks, 5);
  t.equal(Math.min(...distinct(five, 'rack')), 3, 'five replicas use every rack');
  t.equal(Math.min(...distinct(five, 'host')), 5, 'and five hosts');
  const eight = clusterMap(inRacks, 8);
  t.equal(Math.min(...distinct(eight, 'host')), 6, 'eight replicas use every host');
  const oneRack = inRacks.map((entry) => ({ ...entry, rack: '' }));
  t.equal(Math.min(...distinct(clusterMap(oneRack, 3), 'host')), 3, 'without racks, hosts count');
});

t.test('a server that joins takes its share, and nothing moves between the others', async (t) => {
  for (const replicas of [1, 2, 3]) {
    const servers = Array.from({ length: 9 }, () => server());
    const joining = server();
    const before = placed(clusterMap(servers, replicas));
    const after = placed(clusterMap([...servers, joining], replicas));
    let taken = 0;
    for (const group of groups) {
      const old = new Set(before[group]);
      const gained = (after[group] ?? []).filter((id) => !old.has(asServerId(id)));
      if (gained.length > 1 || (gained.length === 1 && gained[0] !== joining.id))
        t.fail(`group ${group} gained ${gained}`);
      taken += gained.length;
    }
    const fair = (GROUPS * replicas) / 10;
    // As random as coin tosses: four standard deviations around the fair share.
    t.ok(
      Math.abs(taken - fair) < 4 * Math.sqrt(fair * 0.9),
      `${replicas} replicas: ${taken} moved, ${fair} is fair`,
    );
  }
});

t.test('a server that leaves gives up its groups, and nothing else moves', async (t) => {
  const servers = Array.from({ length: 8 }, () => server());
  const [leaving, ...staying] = servers;
  const before = placed(clusterMap(servers, 2));
  const after = placed(clusterMap(staying, 2));
  for (const group of groups) {
    const kept = (before[group] ?? []).filter((id) => id !== leaving?.id);
    if (!kept.every((id) => after[group]?.includes(id))) t.fail(`group ${group} lost ${kept}`);
  }
  t.pass('every other replica stayed');
});

t.test('servers hold chunks in proportion to their weights', async (t) => {
  const weights = [1, 1, 2, 4];
  const servers = weights.map((weight) => server({ weight }));
  const map: ClusterMap = { ...clusterMap(servers, 1), groups: 16_384 };
  const counts = new Map<string, number>();
  for (let group = 0; group < map.groups; group++)
    for (const { id } of placeGroup(map, group).replicas) counts.set(id, (counts.get(id) ?? 0) + 1);
  for (const { id, weight } of servers) {
    const fair = (map.groups * weight) / 8;
    const count = counts.get(id) ?? 0;
    t.ok(Math.abs(count - fair) < fair * 0.08, `weight ${weight}: ${count} groups, ${fair} is fair`);
  }
});

t.test('changing one weight moves groups only to or from that server', async (t) => {
  const servers = Array.from({ length: 6 }, () => server());
  const heavier = servers.map((entry, index) => (index === 0 ? { ...entry, weight: 3 } : entry));
  const before = placed(clusterMap(servers, 2));
  const after = placed(clusterMap(heavier, 2));
  let gained = 0;
  for (const group of groups) {
    const fresh = (after[group] ?? []).filter((id) => !before[group]?.includes(id));
    if (fresh.some((id) => id !== servers[0]?.id)) t.fail(`group ${group}: ${fresh}`);
    gained += fresh.length;
  }
  t.ok(gained > GROUPS / 10, `it gained ${gained} groups`);
});
