drop table authentication.login_attempts;
drop table authentication.sessions;
drop table users.user_behavior;
drop table users.user_preferences;
drop table users.users;
drop table users.organizations;
drop type users.user_status;
drop type users.user_role;
