//! What an engine runs with besides itself: what else its times and results depend on.

use std::collections::BTreeMap;

use tapetum_runtime::backend::{Backend, Builds, Device, EngineOptions, Precision};

use crate::engine_cache::Key;

/// Versions of the libraries that `engine` runs with and the device with its driver, by name; empty where the system tells
/// nothing. Loads its library.
pub fn runs_with(engine: &dyn Backend, options: &EngineOptions) -> BTreeMap<String, String> {
    let mut options = options.clone();
    // Where an engine is kept does not change it, and who keeps his own engines tells nothing of them.
    (options.openvino.cache, options.tensorrt.engine_cache) = (None, None);
    let builds = engine.builds(&options).ok().flatten();
    let builds = builds.unwrap_or_else(|| Builds {
        versions: Vec::new(),
        device: match engine.name() {
            "ort:cuda" => Device::Nvidia(options.cuda.device),
            _ => Device::Cpu,
        },
        precision: Precision::Fp32,
        options: Vec::new(),
        unreadable: None,
        slow: false,
    });
    let versions: BTreeMap<String, String> = builds.versions.iter().cloned().collect();
    // As kept engines name it.
    let device = Key::new("", engine.name(), &builds, None).map(|key| key.device).unwrap_or_default();
    versions.into_iter().chain(device).collect()
}

/// The first thing that is another one `now` than `then`, in words.
pub fn difference(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Option<String> {
    let name = then.keys().chain(now.keys()).find(|name| then.get(*name) != now.get(*name))?;
    let of = |map: &BTreeMap<String, String>| map.get(name).cloned().unwrap_or_else(|| "unknown".to_owned());
    Some(format!("{name} was {} then, it is {} now", of(then), of(now)))
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::{
        Error, Result,
        backend::{Found, LoadOptions, ModelSource, Session},
    };

    use super::*;

    /// An engine that always calls itself the same, whatever library builds for it.
    struct Named(&'static str);

    impl Backend for Named {
        fn name(&self) -> &'static str {
            "named"
        }

        fn full_name(&self) -> &'static str {
            "named"
        }

        fn find(&self) -> Result<Found> {
            Ok(Found { version: "1".into(), providers: Vec::new(), library: None })
        }

        fn probe(&self) -> Result<String> {
            Ok("named 1".into())
        }

        fn load(&self, _: ModelSource<'_>, _: &LoadOptions) -> Result<Box<dyn Session>> {
            Err(Error::unsupported("it runs nothing"))
        }

        fn builds(&self, options: &EngineOptions) -> Result<Option<Builds>> {
            let own = options.openvino.cache.is_some() || options.tensorrt.engine_cache.is_some();
            Ok((!own).then(|| Builds {
                versions: vec![("provider".into(), self.0.into())],
                device: Device::Cpu,
                precision: Precision::Fp32,
                options: Vec::new(),
                unreadable: None,
                slow: false,
            }))
        }
    }

    #[test]
    fn another_version_of_the_providers_library_is_told_although_the_engine_calls_itself_the_same() {
        let mut options = EngineOptions::default();
        let then = runs_with(&Named("2541"), &options);
        assert!(then.contains_key("cpu") && then.contains_key("instructions"), "{then:?}");
        assert_eq!(difference(&then, &runs_with(&Named("2541"), &options)), None);
        let told = difference(&then, &runs_with(&Named("2600"), &options)).unwrap();
        assert_eq!(told, "provider was 2541 then, it is 2600 now");
        // Folders of the provider's own hide nothing.
        options.openvino.cache = Some("/own".into());
        options.tensorrt.engine_cache = Some("/own".into());
        assert_eq!(runs_with(&Named("2541"), &options), then);
    }

    #[test]
    fn what_was_not_known_then_is_a_difference() {
        let now = [("driver".to_owned(), "570.1".to_owned())].into();
        let told = difference(&BTreeMap::new(), &now).unwrap();
        assert_eq!(told, "driver was unknown then, it is 570.1 now");
        assert!(difference(&now, &BTreeMap::new()).unwrap().ends_with("it is unknown now"));
    }
}
