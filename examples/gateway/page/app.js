// The page: log in, see the tenant's dashboard, log out.

import { demoLogins } from './api.js';
import { Dashboard } from './dashboard.js';

const storageKey = 'gateway.login';
const page = (id) => document.getElementById(id);

let dashboard;

function savedLogin() {
  try {
    const { tenant, token } = JSON.parse(sessionStorage.getItem(storageKey));
    return { tenant, token };
  } catch {
    return undefined;
  }
}

/// A login that was saved goes on after a reload, and when the browser comes back to a page that it has kept.
function resume() {
  const login = savedLogin();
  if (login) logIn(login);
  else showLogin();
}

function leave() {
  dashboard?.leave();
  dashboard = undefined;
}

function logIn({ tenant, token }) {
  sessionStorage.setItem(storageKey, JSON.stringify({ tenant, token }));
  page('tenant').textContent = tenant;
  page('login').hidden = true;
  for (const id of ['who', 'dashboard']) page(id).hidden = false;
  document.title = `${tenant} – Tenantry gateway`;
  dashboard = new Dashboard({
    page, tenant, token, onUnauthorized: () => logOut('The server does not accept this token any more. Log in again.'),
  });
  page('kpi-title').focus();
}

function logOut(reason = '') {
  if (!dashboard) return;
  dashboard.logOut();
  dashboard = undefined;
  sessionStorage.removeItem(storageKey);
  document.title = 'Tenantry gateway';
  showLogin(reason);
  page('login-title').focus();
}

/// The choice of tenants. `reason` says why it is shown again.
async function showLogin(reason = '') {
  for (const id of ['who', 'dashboard']) page(id).hidden = true;
  page('login').hidden = false;
  page('login-state').textContent = reason || 'Loading the demo tenants …';
  page('tenants').replaceChildren();
  try {
    const logins = await demoLogins();
    if (dashboard) return;
    page('tenants').replaceChildren(...logins.map(tenantItem));
    const choice = logins.length > 0 ? 'Choose one of the demo tenants.' : 'This server has no demo tenants.';
    page('login-state').textContent = reason || choice;
  } catch (problem) {
    page('login-state').textContent = problem.message;
    page('tenants').replaceChildren(listItem(button('Try again', () => showLogin())));
  }
}

function tenantItem(login) {
  const choice = button(login.tenant, () => logIn(login));
  choice.dataset.tenant = login.tenant;
  return listItem(choice);
}

function listItem(content) {
  const item = document.createElement('li');
  item.append(content);
  return item;
}

function button(text, onPress) {
  const element = document.createElement('button');
  element.type = 'button';
  element.textContent = text;
  element.addEventListener('click', onPress);
  return element;
}

function showOnline() {
  page('notice').textContent = navigator.onLine ? '' : 'This device is offline. What you see is the last answer.';
}

page('logout').addEventListener('click', () => logOut());
page('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const token = page('token').value.trim();
  page('token-form').reset();
  if (token) logIn({ tenant: 'of your token', token });
});
for (const event of ['online', 'offline']) addEventListener(event, showOnline);
addEventListener('pagehide', leave);
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) resume();
});
showOnline();
resume();
