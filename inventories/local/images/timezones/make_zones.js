// Turns the tables of tzdata into the document that json-server serves: make_zones.js ZONES COUNTRIES
'use strict';

const fs = require('fs');

// The tables have one record a line, fields parted by tabs, and comments after '#'.
function records(path) {
  return fs.readFileSync(path, 'utf8').split('\n')
    .filter((line) => line && !line.startsWith('#'))
    .map((line) => line.split('\t'));
}

// ISO 6709 in its short forms: +DDMM or +DDMMSS, then +DDDMM or +DDDMMSS.
function coordinates(text) {
  const [, latitude, longitude] = /^([+-]\d+)([+-]\d+)$/.exec(text);
  return [degrees(latitude, 2), degrees(longitude, 3)];
}

function degrees(text, digits) {
  const sign = text[0] === '-' ? -1 : 1;
  const rest = text.slice(1 + digits);
  const value = Number(text.slice(1, 1 + digits)) + Number(rest.slice(0, 2)) / 60 + Number(rest.slice(2) || 0) / 3600;
  return Number((sign * value).toFixed(4));
}

const [zonesPath, countriesPath] = process.argv.slice(2);
const countries = records(countriesPath).map(([id, name]) => ({ id, name }));
const zones = records(zonesPath).map(([codes, place, id, comment]) => {
  const [latitude, longitude] = coordinates(place);
  return { id: id.replaceAll('/', '.'), name: id, countries: codes.split(','), latitude, longitude, comment: comment || '' };
});

process.stdout.write(JSON.stringify({ zones, countries }, null, 1));
