drop table assets.files;
drop type assets.owner_type;
drop table branding.brand_settings;
