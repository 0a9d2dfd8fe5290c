//! The model that this program carries for places without the repository.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::catalog::{Catalog, MODELS_FOLDER};

/// The file of the one model that is in the repository.
const MODEL: &[u8] = include_bytes!("../../../../../.test-models/tiny/tiny.gguf");

/// Writes the model to where the catalog has it, unless it is there.
pub fn provide(catalog: &Catalog, root: &Path) -> Result<()> {
    let Some(entry) = catalog.models.iter().find(|entry| entry.is_embedded()) else {
        return Ok(());
    };
    let path = entry.path_in(&root.join(MODELS_FOLDER));
    if path.exists() {
        return Ok(());
    }
    let write = || {
        let folder = path.parent().unwrap_or(root);
        std::fs::create_dir_all(folder)?;
        // Whole or not at all, whoever else does the same.
        let part = path.with_extension(format!("part-{}", std::process::id()));
        std::fs::write(&part, MODEL)?;
        std::fs::rename(&part, &path)
    };
    write().map_err(|error| {
        let path = path.display();
        anyhow!(
            "cannot write the embedded model to {path}: {error}\n  try: --model PATH, or a folder that can be written to"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::model::catalog::CATALOG;

    #[test]
    fn the_model_is_the_one_of_the_catalog() {
        let catalog = Catalog::parse(CATALOG).unwrap();
        let entry = catalog.models.iter().find(|entry| entry.is_embedded());
        assert_eq!(entry.unwrap().bytes, MODEL.len() as u64);
    }

    #[test]
    fn it_is_written_where_it_is_missing_and_left_alone_where_it_is_not() {
        let root = std::env::temp_dir().join(format!("embedded-{}", uuid::Uuid::new_v4()));
        let catalog = Catalog::parse(CATALOG).unwrap();
        provide(&catalog, &root).unwrap();
        let path = root.join(MODELS_FOLDER).join("tiny/tiny.gguf");
        assert_eq!(std::fs::read(&path).unwrap(), MODEL);
        std::fs::write(&path, "mine").unwrap();
        provide(&catalog, &root).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        std::fs::remove_dir_all(root).unwrap();
    }
}
